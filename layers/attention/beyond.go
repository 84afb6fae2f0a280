package attention

import "fmt"

// Beyond is base + draw, where the random draw takes none of the keys that base has already: the union has exactly as many keys
// as both together promise. Errors: draw is not random or random-blocks; base tells heads apart or has other nodes than tokens.
func Beyond(base, draw Pattern) (Pattern, error) {
	if base.Heads() != 1 {
		return nil, fmt.Errorf("%s tells heads apart inside beyond(…); write heads(beyond(…); …)", base)
	}
	if (spaceOf(base) != space{}) {
		return nil, fmt.Errorf("%s has other nodes than tokens inside beyond(…); add them outside", base)
	}
	if d, ok := draw.(drawn); ok {
		if p, ok := d.avoiding(base); ok {
			return beyond{union{base, p}}, nil
		}
	}
	return nil, fmt.Errorf("%s draws no fixed number of keys; the second of beyond(a; b) is random(…) or random-blocks(…)", draw)
}

type beyond struct{ union }

func (b beyond) String() string { return "beyond(" + b.a.String() + "; " + b.b.String() + ")" }

// rewrite puts other atoms in the place of those of a pattern.
func rewrite(p Pattern, atom func(Pattern) Pattern) Pattern {
	switch q := p.(type) {
	case causal:
		return causal{rewrite(q.of, atom)}
	case union:
		return union{rewrite(q.a, atom), rewrite(q.b, atom)}
	case beyond:
		base := rewrite(q.a, atom)
		draw, _ := atom(q.b).(drawn).avoiding(base)
		return beyond{union{base, draw}}
	case intersection:
		return intersection{rewrite(q.a, atom), rewrite(q.b, atom)}
	case perHead:
		parts := make(perHead, len(q))
		for h := range q {
			parts[h] = rewrite(q[h], atom)
		}
		return parts
	case onTokens:
		return onTokens{rewrite(q.of, atom), q.in}
	}
	return atom(p)
}

// inPast makes random atoms draw from earlier keys only.
func inPast(p Pattern) Pattern {
	return rewrite(p, func(p Pattern) Pattern {
		if d, ok := p.(drawn); ok {
			return d.inPast()
		}
		return p
	})
}

// ownDraws gives every head of a layer draws of its own, if the pattern has random atoms.
func ownDraws(p Pattern, layer, heads int) Pattern {
	random := false
	rewrite(p, func(p Pattern) Pattern {
		_, ok := p.(drawn)
		random = random || ok
		return p
	})
	if !random {
		return p
	}
	parts := make(perHead, heads)
	for h := range parts {
		parts[h] = rewrite(headOf(p, h), func(p Pattern) Pattern {
			if d, ok := p.(drawn); ok {
				return d.forStream(layer*maxHeads + h)
			}
			return p
		})
	}
	if heads == 1 {
		return parts[0]
	}
	return parts
}
