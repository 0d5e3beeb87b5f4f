package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/store/bolt"
)

func (p *program) dbCheckCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "check",
		Usage:     "read all of a history file and tell what is wrong with it",
		ArgsUsage: "FILE",
		Description: `Reads everything in a file that no broker has open, and holds it against itself:

  tbhist db check /backup/tbhist-2026-11-01.db

Nothing in the file changes. The exit code is 1 if something is wrong; each
problem is a line. A broker that is started on such a file sets what is damaged
aside, and serves the rest.`,
		Flags: []urfave.Flag{
			text("format", formatText, "`FORMAT` of the output: text or json"),
			quietFlag(),
		},
		Action: oneFile("history file", p.dbCheck),
	}
}

// checkReport is the form in which JSON is printed.
type checkReport struct {
	File     string         `json:"file"`
	Things   int            `json:"things"`
	Updates  uint64         `json:"updates"`
	Segments int            `json:"segments"`
	Records  uint64         `json:"records"`
	Found    uint64         `json:"problems_found"`
	Problems []checkProblem `json:"problems"` // the first of them
}

type checkProblem struct {
	Where string  `json:"where"`
	Seq   *uint64 `json:"seq"` // nil where that is not known
	What  string  `json:"what"`
}

func (p *program) dbCheck(c *urfave.Context, path string) error {
	asJSON, err := textOrJSON(c, formatText)
	if err != nil {
		return err
	}
	w, hide := p.startWorking(c, "checking", nil)
	defer hide()
	return p.finish(func(ctx context.Context) error {
		report, err := bolt.Check(ctx, path, w.note)
		if err != nil {
			return fileError(path, err)
		}
		found := uint64(len(report.Problems)) + report.More
		if err := p.printCheck(c, path, report, found, asJSON); err != nil || found == 0 {
			return err
		}
		return fmt.Errorf("%s found in %s: a backup may have it whole; a broker sets what is damaged aside and serves the rest", problems(found), path)
	}, func() string { return path + " is not checked; nothing in it was changed" })
}

func problems(n uint64) string {
	if n == 1 {
		return "1 problem"
	}
	return grouped(n) + " problems"
}

func (p *program) printCheck(c *urfave.Context, path string, report *bolt.CheckReport, found uint64, asJSON bool) error {
	if asJSON {
		j := checkReport{
			File: path, Things: report.Things, Updates: report.Updates, Segments: report.Segments,
			Records: report.Records, Found: found, Problems: []checkProblem{},
		}
		for _, one := range report.Problems {
			problem := checkProblem{Where: one.Where, What: one.What}
			if one.Seq != 0 {
				problem.Seq = &one.Seq
			}
			j.Problems = append(j.Problems, problem)
		}
		return json.NewEncoder(p.stdout).Encode(&j)
	}
	var out strings.Builder
	for _, one := range report.Problems {
		out.WriteString(one.Where)
		if one.Seq != 0 {
			fmt.Fprintf(&out, " (from seq %d)", one.Seq)
		}
		fmt.Fprintf(&out, ": %s\n", one.What)
	}
	if report.More > 0 {
		fmt.Fprintf(&out, "and %s more\n", grouped(report.More))
	}
	if _, err := fmt.Fprint(p.stdout, out.String()); err != nil {
		return err
	}
	well := ""
	if found == 0 {
		well = ": nothing is wrong"
	}
	p.note(c, "%s: %s with %s, in %s records%s", path, things(report.Things), updates(report.Updates), grouped(report.Records), well)
	return nil
}
