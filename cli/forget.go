package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/thing"
)

func (p *program) forgetCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "forget",
		Usage:     "take Things out of a broker's directory and history, for ever",
		ArgsUsage: "NAMESPACE",
		Description: `Takes a Thing out of the directory, snapshots, metrics and history of a running
broker, and prints what goes:

  tbhist forget shop.lamp --dry-run    what would go
  tbhist forget shop.lamp
  tbhist forget shop --tree            with all Things below it
  tbhist forget --all --yes            everything

There is no way back but a backup. A sensor that goes on sending is a new Thing,
which begins at thing_seq 1: serve --deny keeps it out. What is gone makes room
in the file, which does not become smaller; tbhist db compact makes it so.

It is answered to programs on the broker's own machine, and to others with the
token of serve --http-token. The exit code is 1 if there is no such Thing.`,
		Flags: []urfave.Flag{
			typed("tree", "with all Things below it"),
			typed("root", "the root Thing, whose namespace is empty, instead of a NAMESPACE"),
			typed("all", "everything, instead of a NAMESPACE; needs --yes"),
			typed("yes", "with --all: that is meant"),
			toggle("dry-run", false, "only print what would go"),
			text("format", formatText, "`FORMAT` of the output: text or json"),
			tokenFlag(),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		},
		Action: p.forget,
	}
}

// forgetQuery reads what is to be forgotten. All of it only goes by a word
// of its own: a variable in a script may be empty.
func forgetQuery(c *urfave.Context) (q client.ForgetQuery, err error) {
	q = client.ForgetQuery{Tree: c.Bool("tree"), DryRun: c.Bool("dry-run")}
	given := c.Args().First()
	switch all, root := c.Bool("all"), c.Bool("root"); {
	case all && root, (all || root) && c.NArg() > 0, c.NArg() > 1:
		return q, usagef("forget takes one of: a NAMESPACE, --root, --all")
	case all && !q.DryRun && !c.Bool("yes"):
		return q, usagef("--all forgets everything that the broker has: add --yes if that is meant, or --dry-run to see what would go")
	case all:
		q.Tree = true
		return q, nil
	case root && q.Tree:
		return q, usagef("all below the root is everything: --all says so")
	case root:
		return q, nil
	case given == "":
		return q, usagef("forget takes the namespace of a Thing; tbhist things lists them; --root is the root Thing, --all everything")
	}
	if under, ok := strings.CutSuffix(given, ".*"); ok {
		return q, usagef("%q is not a namespace: a Thing with all below it is %s --tree", given, under)
	}
	if q.Name, err = parseNS(given); err != nil {
		return q, usagef("%v", err)
	}
	return q, nil
}

func (p *program) forget(c *urfave.Context) error {
	q, err := forgetQuery(c)
	if err != nil {
		return err
	}
	asJSON, err := textOrJSON(c, formatText)
	if err != nil {
		return err
	}
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	asked := false
	return p.finish(func(ctx context.Context) error {
		asked = !q.DryRun
		gone, err := cl.Forget(ctx, q)
		asked = asked && err != nil
		if err != nil {
			return err
		}
		if gone.Things == 0 {
			return nothingToForget(ctx, cl, q)
		}
		if asJSON {
			err = json.NewEncoder(p.stdout).Encode(struct {
				Things  int          `json:"things"`
				Updates uint64       `json:"updates"`
				Names   []thing.Name `json:"names"`
				DryRun  bool         `json:"dry_run"`
			}{gone.Things, gone.Updates, gone.Names, q.DryRun})
			return err
		}
		return p.printForgotten(q, &gone)
	}, func() string {
		if asked {
			return "what was asked for may be done or not; tbhist things tells"
		}
		return "nothing was forgotten"
	})
}

// printForgotten prints the names, and says how many.
func (p *program) printForgotten(q client.ForgetQuery, gone *client.Forgotten) error {
	var out strings.Builder
	for _, name := range gone.Names {
		out.WriteString(nameText(name) + "\n")
	}
	if _, err := fmt.Fprint(p.stdout, out.String()); err != nil {
		return err
	}
	if more := gone.Things - len(gone.Names); more > 0 {
		say(p.stderr, "and %s more", grouped(uint64(more)))
	}
	if q.DryRun {
		say(p.stderr, "%s with %s would be forgotten; without --dry-run they are", things(gone.Things), updates(gone.Updates))
	} else {
		say(p.stderr, "%s with %s forgotten", things(gone.Things), updates(gone.Updates))
	}
	return nil
}

// nothingToForget says what may have been meant.
func nothingToForget(ctx context.Context, cl *client.Client, q client.ForgetQuery) error {
	if q.Name == "" {
		if q.Tree {
			return fmt.Errorf("the broker has no Thing at all")
		}
		return fmt.Errorf("the root Thing has no data")
	}
	if !q.Tree {
		below, err := cl.Forget(ctx, client.ForgetQuery{Name: q.Name, Tree: true, DryRun: true})
		if err == nil && below.Things > 0 {
			return fmt.Errorf("%s itself has no data, but %s below it; --tree takes all of it", q.Name, thereAre(below.Things))
		}
	}
	return noSuchThing(ctx, cl, q.Name)
}

func thereAre(n int) string {
	if n == 1 {
		return "there is 1 Thing"
	}
	return "there are " + things(n)
}

// noSuchThing says that a Thing is not known, and which one may be meant.
func noSuchThing(ctx context.Context, cl *client.Client, name thing.Name) error {
	known, err := thingsOf(ctx, cl)
	if err != nil { // then without
		known = nil
	}
	return fmt.Errorf("there is no Thing %s%s", nameText(name), suggestThing(name, withParents(known)))
}

// thingsOf gives the names of the Things that a broker has.
func thingsOf(ctx context.Context, cl *client.Client) (names []string, err error) {
	for entry, err := range cl.Things(ctx, client.ThingsQuery{}) {
		if err != nil {
			return nil, err
		}
		names = append(names, string(entry.Update.Name))
	}
	return names, nil
}

// withParents adds the names above, which may have no data of their own.
func withParents(names []string) []string {
	all := map[string]bool{}
	for _, name := range names {
		n := thing.Name(name)
		for ok := true; ok && n != "" && !all[string(n)]; n, ok = n.Parent() {
			all[string(n)] = true
		}
	}
	return slices.Collect(maps.Keys(all))
}

// suggestThing gives what may follow "there is no Thing X".
func suggestThing(name thing.Name, known []string) string {
	if meant := didYouMean(string(name), known); meant != "" {
		return meant
	}
	return "; tbhist things lists those there are"
}
