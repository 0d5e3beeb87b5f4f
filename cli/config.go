package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	urfave "github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"
	"gopkg.in/yaml.v3"
)

// applyConfig is the Before of a command with --config: flags that were
// neither given nor in the environment take their value from the file.
func applyConfig(flags []urfave.Flag) urfave.BeforeFunc {
	return func(c *urfave.Context) error {
		path := c.String("config")
		if path == "" {
			return nil
		}
		source, err := loadConfig(path, flags)
		if err != nil {
			return usagef("--config %s: %v", path, err)
		}
		return altsrc.ApplyInputSourceValues(c, source, flags)
	}
}

// loadConfig reads a YAML file of "flag: value" lines. A value is taken as
// it is written, so that "ring: 5000" and "listen: :7954" need no quotes; a
// flag that may be repeated takes a list too. Everything in the file must be
// known: a misspelt limit would otherwise be no limit.
func loadConfig(path string, flags []urfave.Flag) (altsrc.InputSourceContext, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		var where *os.PathError
		if errors.As(err, &where) {
			err = where.Err // the path is said already
		}
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	values := map[any]any{}
	if len(doc.Content) == 0 { // nothing but comments
		return altsrc.NewMapInputSource(path, values), nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: taken is a line \"flag: value\" for each flag", top.Line)
	}
	known, names := configFlags(flags)
	var unknown []string
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		flag, ok := known[key.Value]
		if !ok {
			unknown = append(unknown, fmt.Sprintf("line %d: there is no flag %q%s", key.Line, key.Value, didYouMean(key.Value, names)))
			continue
		}
		if _, twice := values[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %q is there twice", key.Line, key.Value)
		}
		v, err := configValue(flag, value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", value.Line, key.Value, err)
		}
		if v != nil {
			values[key.Value] = v
		}
	}
	if len(unknown) > 0 {
		return nil, errors.New(strings.Join(unknown, "; "))
	}
	return altsrc.NewMapInputSource(path, values), nil
}

// configFlags gives the flags that a file can set.
func configFlags(flags []urfave.Flag) (known map[string]urfave.Flag, names []string) {
	known = map[string]urfave.Flag{}
	for _, f := range flags {
		if _, ok := f.(altsrc.FlagInputSourceExtension); ok {
			known[f.Names()[0]] = f
			names = append(names, f.Names()[0])
		}
	}
	return known, names
}

// configValue gives the value in the type that altsrc wants for the flag;
// nil for a key without a value, which leaves the default.
func configValue(flag urfave.Flag, node *yaml.Node) (any, error) {
	_, repeated := flag.(*altsrc.StringSliceFlag)
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return nil, nil
	case node.Kind == yaml.ScalarNode && repeated:
		return []any{node.Value}, nil
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind == yaml.SequenceNode && repeated:
		list := []any{}
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("taken is a list of plain values")
			}
			list = append(list, item.Value)
		}
		return list, nil
	case repeated:
		return nil, errors.New("taken is a value or a list of values")
	}
	return nil, errors.New("taken is one plain value")
}
