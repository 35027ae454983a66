package text_test

import (
	"bytes"
	"slices"
	"testing"

	"coord/server/text"
)

// FuzzParse: no panic, progress, bounded memory (all in feed), and the same outcomes however the
// bytes are split.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		whole := feed(t, smallLimits, in, max(len(in), 1))
		sameOutcomes(t, "in steps", feed(t, smallLimits, in, int(step)+1), whole)
		// A parsed request can be encoded, and parses to the same request again.
		var again []byte
		var want []outcome
		for _, o := range whole {
			if o.req != nil {
				again = text.AppendRequest(again, o.req)
				want = append(want, o)
			}
		}
		sameOutcomes(t, "said again", feed(t, text.DefaultLimits(), again, max(len(again), 1)), want)
	})
}

// FuzzReadReply: no panic, progress, and the same replies however the bytes are split.
func FuzzReadReply(f *testing.F) {
	for i := range replies {
		f.Add(replies[i].reply.Append(nil, text.FormatText, i%2 == 0), uint8(2))
	}
	lim := text.ReplyLimits{Line: 200, Reply: 1000, Items: 50}
	read := func(t *testing.T, in []byte, step int) (all []byte) {
		rd := text.NewReader(lim)
		var buf []byte
		for len(in) > 0 {
			n := min(step, len(in))
			buf, in = append(buf, in[:n]...), in[n:]
			for {
				r, n, err := rd.Next(buf)
				if err != nil {
					return append(all, "closed"...)
				}
				if n < 0 || n > len(buf) || (n == 0) != (r.Kind == 0) {
					t.Fatalf("consumed %d of %d bytes for %v", n, len(buf), r)
				}
				if n == 0 {
					break
				}
				if len(r.Items) > lim.Items {
					t.Fatalf("%d items", len(r.Items))
				}
				all = r.Append(all, text.FormatText, false)
				buf = slices.Clone(buf[n:])
			}
			if most := 2*(lim.Reply+lim.Line) + 8; len(buf) > most && step < most {
				t.Fatalf("%d bytes wait in the buffer", len(buf))
			}
		}
		return all
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		whole := read(t, in, max(len(in), 1))
		if got := read(t, in, int(step)+1); !bytes.Equal(got, whole) {
			t.Fatalf("in steps:\n got %q\nwant %q", got, whole)
		}
	})
}
