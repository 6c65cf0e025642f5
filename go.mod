module github.com/amavis-milter/amavis-milter

go 1.26.0
