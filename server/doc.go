// Package server wires the rooms of one node together: it takes the data folder,
// starts what lies in it, lets clients in, and stops everything in reverse. It is
// the only package that knows all the others; it decides nothing that one of
// them could decide.
package server
