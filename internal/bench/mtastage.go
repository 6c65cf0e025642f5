package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// mtaStage is the first argument of a process that measures with real MTAs, in a lab, and
// prints what it found as JSON. It is followed by the tree, our program in it, and
// planQuick or planFull.
const (
	mtaStage  = "mta-stage"
	planQuick = "quick"
	planFull  = "full"
)

// realMTAs measures what a milter adds at real MTAs, in a process of its own: to enter a
// lab a program executes itself anew.
func realMTAs(r *Rig, report *Report) error {
	plan := planFull
	if r.Quick {
		plan = planQuick
	}
	binary := r.Programs[0].args(Endpoint{}, Endpoint{}, "", "")[0]
	var out bytes.Buffer
	cmd := exec.CommandContext(r.ctx, "/proc/self/exe", mtaStage, r.Module, binary, plan)
	cmd.Stdout, cmd.Stderr = &out, r.Log
	if err := cmd.Run(); err != nil {
		return err
	}
	var series []*MTASeries
	if err := json.Unmarshal(out.Bytes(), &series); err != nil {
		return fmt.Errorf("what was found: %w", err)
	}
	report.Sections = append(report.Sections, mtaSection(series))
	return nil
}

// mtaSection is the part of the report about it.
func mtaSection(series []*MTASeries) Section {
	s := Section{
		Title: "At real MTAs",
		Text: fmt.Sprintf("A client that pipelines nothing sends one message of %d bytes after the other, %d over one\n"+
			"connection or each over a new one, and the MTA keeps them in its queue. What the same MTA takes\n"+
			"without a milter, at the same quantile, and what is added to it by a milter that does nothing, by\n"+
			"ours and by amavisd-milter, whose turns follow each other; in brackets the least and the most that\n"+
			"was added in any of the rounds. A p99 without a milter of many times its p50 is the machine's own\n"+
			"noise, and so are then the p99s beside it.\n\n%s",
			mtaMessageSize, fullMTAPlan.Kept, mtaMarkdown(mtaRows(series))),
	}
	for _, of := range series {
		if of.Failed > 0 {
			failed := fmt.Sprintf("%s, %s: %d messages FAILED, the first: %s", of.MTA, of.Program, of.Failed, of.Failure)
			s.Text += "\n- " + failed + "\n"
			if of.Program == ours {
				s.Unmet = append(s.Unmet, failed)
			}
		}
	}
	return s
}

// MTAStage is that process: it says so if these arguments of a program ask for it, and how
// the program is to end then. A program that runs steps must call it first of all.
func MTAStage(args []string) (code int, asked bool) {
	if len(args) != 4 || args[0] != mtaStage {
		return 0, false
	}
	if err := runMTAStage(args[1], args[2], args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1, true
	}
	return 0, true
}

func runMTAStage(module, binary, plan string) error {
	how := fullMTAPlan
	if plan == planQuick {
		how = quickMTAPlan
	}
	config := lab.Config{Module: module, Cache: filepath.Join(module, "build/lab"), Progress: os.Stderr}
	code, err := lab.Run(context.Background(), config, func() int {
		series, err := measureMTAs(filepath.Join(module, "contrib"), binary, how, io.Discard)
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(series)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("the measurement ended with code %d", code)
	}
	return err
}
