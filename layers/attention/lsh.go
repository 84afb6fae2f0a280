package attention

// Values of Plan, Dup and Wrap.
const (
	PlanChunks   = "chunks"
	BucketRecent = "bucketRecent"
	DupOnce      = "once"
	DupCount     = "count"
	WrapNone     = "none"
	WrapRound    = "round"
	WrapAcross   = "across"
)
