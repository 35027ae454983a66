// Package server wires the packages of one node together: it opens the data folder, starts what the
// folder holds, lets clients in, and stops everything in reverse order. It is the only package that
// knows all the others, and it decides nothing that one of them could decide.
package server
