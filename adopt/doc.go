// Package adopt holds the code with which client libraries take safedial's dialers:
// one function per library, whose body is a line of docs/adopt.md, and whose comment
// is the rest of that line. The tests compare the page with the functions, make round
// trips with the servers, and compile the README. It is a module of its own, so that
// the library depends on none of them; adopt/heavy has the largest.
package adopt
