package kernels

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSets(t *testing.T) {
	before := Set()
	t.Cleanup(func() { require.NoError(t, Use(before)) })
	names := Sets()
	require.Equal(t, "generic", names[len(names)-1])
	require.Subset(t, []string{"avx512", "avx2", "generic"}, names)
	for _, s := range names {
		require.NoError(t, Use(s))
		require.Equal(t, s, Set())
	}
	var unknown *UnknownSetError
	require.ErrorAs(t, Use("avx1024"), &unknown)
	require.Equal(t, "avx1024", unknown.Name)
	require.Equal(t, "generic", Set(), "a failed choice changes nothing")
}

func TestSetFromEnvironment(t *testing.T) {
	before := Set()
	t.Cleanup(func() { require.NoError(t, Use(before)) })
	require.NoError(t, start(""))
	require.Equal(t, Sets()[0], Set(), "the best is the default")
	require.NoError(t, start("Generic"))
	require.Equal(t, "generic", Set())
	err := start("sse9")
	require.ErrorContains(t, err, `EURYALE_CPU=sse9: kernel set "sse9"`)
	require.ErrorContains(t, err, "generic")
}
