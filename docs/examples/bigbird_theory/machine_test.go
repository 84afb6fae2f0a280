package bigbird_theory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The busy beaver, written by a decoder.
func ExampleDecoder() {
	const width, steps = 7, 7
	d, err := NewDecoder(BusyBeaver, width, steps)
	if err != nil {
		fmt.Println(err)
		return
	}
	trace, err := d.Run(BusyBeaver.NewTape("0000000", 3))
	if err != nil {
		fmt.Println(err)
		return
	}
	for t, tape := range trace {
		fmt.Println(t, tape)
	}
	// Output:
	// 0 000A0000
	// 1 0001B000
	// 2 000A1100
	// 3 00B01100
	// 4 0A011100
	// 5 01B11100
	// 6 011H1100
	// 7 011H1100
}

// The decoder writes what the machine does, to the last square, for machines that halt and for one that does not.
func TestDecoderIsTheMachine(t *testing.T) {
	for _, c := range []struct {
		machine Machine
		tape    string
		head    int
		steps   int
	}{
		{BusyBeaver, "000000000", 4, 9},
		{Counter, "____0_", 4, 31},
		{Counter, "_1011_", 1, 11},
	} {
		d, err := NewDecoder(c.machine, len(c.tape), c.steps)
		require.NoError(t, err)
		first := c.machine.NewTape(c.tape, c.head)
		got, err := d.Run(first)
		require.NoError(t, err)
		want := c.machine.Simulate(first, c.steps)
		require.Equal(t, len(want), len(got))
		for k := range want {
			require.Equal(t, want[k].String(), got[k].String(), "step %d", k)
		}
	}
}

// The simulators are right: four ones, and numbers in their order.
func TestMachines(t *testing.T) {
	trace := BusyBeaver.Simulate(BusyBeaver.NewTape("0000000", 3), 6)
	require.Equal(t, 4, strings.Count(trace[6].String(), "1"))
	var numbers []string
	for _, tape := range Counter.Simulate(Counter.NewTape("____0_", 4), 47) {
		if s := tape.String(); strings.HasSuffix(s, "R_") { // a number is done
			numbers = append(numbers, strings.Trim(s, "_R"))
		}
	}
	require.Equal(t, []string{"0", "1", "10", "11", "100", "101", "110", "111", "1000"}, numbers[:9])
	_, err := (&Decoder{width: 3}).Run(Tape{{'0', 0}})
	require.ErrorContains(t, err, "a tape of 1 squares for a decoder of 3")
}
