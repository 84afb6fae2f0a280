package config

import "encoding/json"

// Patch changes a JSON object by another one: objects key by key, anything else as a whole; null takes a key out. Keys come out sorted.
//
// Errors: *FieldError if one of the two is no object.
// Source: JSON Merge Patch, RFC 7396.
func Patch(object, changes json.RawMessage) (json.RawMessage, error) {
	into, err := objectOf(object)
	if err != nil {
		return nil, err
	}
	from, err := objectOf(changes)
	if err != nil {
		return nil, err
	}
	for k, v := range from {
		if string(v) == "null" {
			delete(into, k)
			continue
		}
		if v[0] == '{' {
			was := into[k]
			if len(was) == 0 || was[0] != '{' {
				was = json.RawMessage("{}")
			}
			if v, err = Patch(was, v); err != nil {
				return nil, err
			}
		}
		into[k] = v
	}
	return json.Marshal(into)
}

func objectOf(raw json.RawMessage) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, &FieldError{Value: raw, Want: `want an object such as {"key": 1}`}
	}
	return m, nil
}
