package simnode

import (
	"encoding/json"
	"testing"

	"github.com/ankacluster/ankacluster/controllerapi"
)

func TestDamageIsSeen(t *testing.T) {
	t.Parallel()
	read := func(change func(*controllerapi.Instance, string)) string {
		i := controllerapi.Instance{ExternalID: "key-1", Metadata: Mark("key-1", 4<<10)}
		if change != nil {
			change(&i, i.Metadata[marks].(string))
		}
		data, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		var got controllerapi.Instance
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		return Damage(got)
	}
	if why := read(nil); why != "" {
		t.Errorf("a whole answer: %s", why)
	}
	for name, change := range map[string]func(*controllerapi.Instance, string){
		"one byte is another": func(i *controllerapi.Instance, m string) { i.Metadata[marks] = m[:len(m)-1] + "!" },
		"it is cut":           func(i *controllerapi.Instance, m string) { i.Metadata[marks] = m[:len(m)/2] },
		"it is another's":     func(i *controllerapi.Instance, m string) { i.ExternalID = "key-2" },
		"it is gone":          func(i *controllerapi.Instance, m string) { delete(i.Metadata, marks) },
	} {
		if read(change) == "" {
			t.Errorf("%s, and nothing is said", name)
		}
	}
}
