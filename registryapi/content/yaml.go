package content

import (
	"encoding/json"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxYAML is the largest configuration that is read as YAML. Those that anka writes
// have some 4 KB.
const maxYAML = 64 << 10

// maxNesting is how deep lists and objects are in one another at most.
const maxNesting = 32

var errYAML = errors.New("aliases, other keys than words, or too much of it")

// yamlToJSON converts a pushed configuration. A YAML document can name a part of
// itself and repeat it: a few hundred KB are then as many GB. No configuration of a VM
// does so, and one that does is not read. What is returned is at most a few times as
// long as data.
func yamlToJSON(data []byte) (json.RawMessage, error) {
	if len(data) > maxYAML {
		return nil, errYAML
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errYAML
	}
	v, err := plainValue(doc.Content[0], maxNesting)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// plainValue returns what a node says, in the types of JSON.
func plainValue(n *yaml.Node, depth int) (any, error) {
	if depth == 0 {
		return nil, errYAML
	}
	switch n.Kind {
	case yaml.MappingNode:
		object := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return nil, errYAML
			}
			v, err := plainValue(n.Content[i+1], depth-1)
			if err != nil {
				return nil, err
			}
			object[key.Value] = v
		}
		return object, nil
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := plainValue(item, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return plainScalar(n), nil
	}
	return nil, errYAML // an alias
}

// plainScalar returns a scalar as JSON has it. What JSON has no value for, such as a
// time, is the text that stands there.
func plainScalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if text := json.Number(n.Value); json.Valid([]byte(text)) {
			return text
		}
	}
	return n.Value
}
