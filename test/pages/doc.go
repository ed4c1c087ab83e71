// Package pages reads the commands of README.md, of the manual in docs/ and of the
// chart's page, and says of each what becomes of it in a test:
//
//   - Stories are commands that test/topologies types as written, on hosts with the
//     addresses of the pages (TestPages);
//   - Whole are pages whose blocks another test types;
//   - Elsewhere are commands that another test types;
//   - NotHere are commands that cannot be typed where the tests run, and why;
//   - `make` and `go` commands are held to the Makefile and to the tests that they name.
//
// A command that is none of these fails TestEveryCommandHasItsPlace. All commands of
// our own are also parsed by the program itself, in a test of each of the programs
// (Check).
package pages
