// In the place of xmlbuilder2, which vtk.js has for files of its own: nothing here reads or writes them.

export function create(): never {
  throw new Error("no XML here");
}
