package transfer

import (
	"net/http"
	"testing"
)

// An upload goes on at the registry that was named, wherever the answer to its
// beginning points: its content and the credentials are for nobody else.
func TestUploadStaysAtItsRegistry(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://registry:8089/v2/vm/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]string{
		"/v2/vm/blobs/uploads/1": "https://registry:8089/v2/vm/blobs/uploads/1",
		"1?state=a":              "https://registry:8089/v2/vm/blobs/uploads/1?state=a",
		"https://registry:8089/v2/vm/blobs/uploads/1":        "https://registry:8089/v2/vm/blobs/uploads/1",
		"https://evil.example/v2/vm/blobs/uploads/1":         "",
		"//evil.example/v2/vm/blobs/uploads/1":               "",
		"http://registry:8089/v2/vm/blobs/uploads/1":         "",
		"https://registry:8089@evil.example/blobs/uploads/1": "",
		"https://registry:9000/v2/vm/blobs/uploads/1":        "",
	} {
		u := &upload{}
		err := u.move(req, &http.Response{Header: http.Header{"Location": {location}}})
		if u.location != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", location, u.location, err)
		}
	}
}
