// Package readme tries what the documents say: it runs the commands of README.md with the real binary, follows every relative
// link and anchor, and looks up every test, file, function, command and flag that the pages name.
package readme
