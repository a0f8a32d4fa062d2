/**
 * What is given to one source by its name, or to all.
 */
import type { Target } from "./sourceUri.js"

/** Something for the sources of this name; `undefined`: for all. */
export interface Scoped<A> {
  readonly scope: string | undefined
  readonly value: A
}

/** What is for a source: its own, and that for all. */
export const own = <A>(target: Target, all: ReadonlyArray<Scoped<A>>): ReadonlyArray<A> => [
  ...all.filter(({ scope }) => scope === undefined).map(({ value }) => value),
  ...all.filter(({ scope }) => scope === target.name).map(({ value }) => value)
]
