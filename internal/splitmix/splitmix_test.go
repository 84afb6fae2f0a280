package splitmix

import (
	"math"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKnownStream: the first numbers of the published generator from the seeds 0 and 1234567.
func TestKnownStream(t *testing.T) {
	for seed, want := range map[uint64][]uint64{
		0:       {0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f},
		1234567: {6457827717110365317, 3203168211198807973, 9817491932198370423},
	} {
		for i, w := range want {
			require.Equal(t, w, Mix(seed+uint64(i+1)*Increment), "seed %d, number %d", seed, i)
		}
	}
}

func TestEveryBitMatters(t *testing.T) {
	const n = 997
	for bit := range 64 {
		changed := 0
		for i := range uint64(n) {
			x := i * Increment
			changed += bits.OnesCount64(Mix(x) ^ Mix(x^1<<bit))
		}
		require.InDelta(t, 32, float64(changed)/n, 1, "bit %d", bit)
	}
}

func TestUnit(t *testing.T) {
	require.Zero(t, Unit(0))
	require.Equal(t, 1-math.Pow(2, -53), Unit(math.MaxUint64))
	require.Equal(t, 0.5, Unit(1<<63))
}
