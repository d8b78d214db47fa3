package checkpoint

import "testing"

func TestKeysAreLengthPrefixedAndZeroEndsTheChain(t *testing.T) {
	mk := func(parts ...string) Key { d := NewDigest("t.v1"); d.Text(parts...); return d.Key() }
	if mk("ab", "c") == mk("a", "bc") {
		t.Error("parts run into each other")
	}
	if one, again := mk("a"), mk("a"); one != again {
		t.Error("not the same twice")
	}
	if mk("a").Then(mk("b")) == mk("b").Then(mk("a")) {
		t.Error("not a chain")
	}
	if !(Key{}).Then(mk("a")).IsZero() || !mk("a").Then(Key{}).IsZero() {
		t.Error("a zero key must end the chain")
	}
}
