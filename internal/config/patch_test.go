package config

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPatch has the cases of RFC 7396, appendix A, that are about objects.
func TestPatch(t *testing.T) {
	for _, c := range []struct{ object, changes, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		got, err := Patch(json.RawMessage(c.object), json.RawMessage(c.changes))
		require.NoError(t, err)
		require.Equal(t, c.want, string(got))
	}
	for _, bad := range []string{`["c"]`, `null`, `"bar"`, `{`, ``} {
		_, err := Patch(json.RawMessage(`{"a":"f"}`), json.RawMessage(bad))
		require.Error(t, err, bad)
		_, err = Patch(json.RawMessage(bad), json.RawMessage(`{}`))
		require.Error(t, err, bad)
	}
}
