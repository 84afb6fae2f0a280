package layers

// Site numbers a random draw of the scope, of a kind such as "rotations": the same place in the model gives the same number in every graph,
// and every call another one. Operations that draw take it together with Seed and the input Step, so that a block that is computed again,
// and a run that goes on, see the same draws.
func (b *Builder) Site(kind string) uint64 { return b.site(kind) }
