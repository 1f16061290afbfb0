// Package repo has tests of the repository as a whole: of the names that the library
// exports, and of what the documentation refers to.
package repo
