// Package unbuildable has places whose fixes would not build, because a use of what they
// change is not seen.
package unbuildable

import "net"

type client struct {
	dialer net.Dialer // want `left as it is: a literal sets the field without its name`
	name   string
}

func unkeyed() {
	_ = client{net.Dialer{}, "x"}     // want `left as it is: a literal sets the field without its name`
	_ = []client{{net.Dialer{}, "x"}} // want `left as it is: a literal sets the field without its name`
	_ = client{dialer: net.Dialer{}}  // want `left as it is: a literal sets the field without its name`
}

type pointer struct {
	dialer *net.Dialer
	name   string
}

func pointers() {
	_ = pointer{&net.Dialer{}, "x"}       // want `left as it is: a literal sets the field without its name`
	_ = pointer{dialer: &net.Dialer{}}    // want `left as it is: a literal sets the field without its name`
	_ = &pointer{dialer: new(net.Dialer)} // want `left as it is: a literal sets the field without its name`
}

type address struct {
	a net.Dialer // want `left as it is: its use cannot be followed`
}

func dereferenced(x *address) {
	*(&x.a) = net.Dialer{} // want `left as it is: its use cannot be followed`
}

func dereferencedVariable() {
	var d net.Dialer // want `left as it is: it is assigned to another variable`
	p := &d
	*p = net.Dialer{} // want `left as it is: its use cannot be followed`
	d.Dial("tcp", "a:80")
}

type named struct {
	d net.Dialer // want `left as it is: the package would not build: cannot use`
}

func identical(n named) {
	unnamed := struct {
		d net.Dialer // want `left as it is: a literal sets the field without its name`
	}{net.Dialer{}} // want `left as it is: a literal sets the field without its name`
	unnamed = n
	unnamed.d.Dial("tcp", "a:80")
}

func swapped() {
	one, other := &net.Dialer{}, &net.Dialer{} // want `left as it is` `left as it is`
	one, other = other, one
	one.Dial("tcp", "a:80")
	other.Dial("tcp", "a:80")
}

func shadowed() {
	new := func(net.Dialer) *net.Dialer { return nil }
	new(net.Dialer{}).Dial("tcp", "a:80") // want `left as it is: its use cannot be followed`
	d := new(net.Dialer{})                // want `left as it is: its use cannot be followed`
	d.Dial("tcp", "a:80")
}

func positional() {
	d := &net.Dialer{Timeout: 1} // want `net.Dialer does not use safedial$`
	d.Dial("tcp", "a:80")
}
