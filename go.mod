module github.com/amavis-milter/amavis-milter

go 1.26.0

require (
	github.com/d--j/go-milter v0.10.1
	github.com/spf13/pflag v1.1.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/emersion/go-message v0.18.2 // indirect
	golang.org/x/text v0.28.0 // indirect
)
