// Package clients is apart from the library because it imports more than 40 client
// libraries, on which the library must not depend. It proves that they take safedial's
// dialers: each function has the code for one library, as docs/adopt.md has it, and its
// comment is the rest of the page's line. The tests compare the page with the functions,
// compile the README's code, dial by each library, and make round trips with servers.
//
// The largest libraries need the build tag heavy, so that the tests build without them.
package clients
