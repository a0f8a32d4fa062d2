/**
 * What a subscriber of an informer is told, and how it follows from two values of a key.
 */
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Change from "../core/Change.js"
import type { Lagged } from "./Lagged.js"

/**
 * A change of the cache. Who has handled it has been told everything up to `revision`; 0: it is one of several that belong
 * together, and only the last of them has their revision.
 */
export type Changed<A> = Change.Change<A> & { readonly revision: number }

/**
 * The subscriber was too slow: `missed` changes of the cache, up to `revision`, were dropped for it.
 */
export interface Missed extends Lagged {
  readonly missed: number
  readonly revision: number
}

export type Event<A> = Changed<A> | Missed

/** What a view accepts. */
export type Predicate<in A> = (value: A, key: string) => boolean

/** The value that a key had before a change. */
export const before = <A>(change: Change.Change<A>): Option.Option<A> =>
  change._tag === "Added" ? Option.none() : change.previous

const after = <A>(change: Change.Change<A>): Option.Option<A> =>
  change._tag === "Removed" ? Option.none() : Option.some(change.value)

/** The change from one value of a key to another, either of which may be none. */
const transition = <A>(key: string, from: Option.Option<A>, to: Option.Option<A>): Change.Change<A> | undefined => {
  if (Option.isSome(to)) {
    return Option.isNone(from) ? Change.added(key, to.value) : Change.modified(key, to.value, from)
  }
  return Option.isNone(from) ? undefined : Change.removed(key, from)
}

/** The same as a view sees it, and nothing if it is the same value. */
export const difference = <A>(
  key: string,
  from: Option.Option<A>,
  to: Option.Option<A>,
  accepts: Predicate<A> | undefined
): Change.Change<A> | undefined => {
  if (Option.isSome(from) && Option.isSome(to) && Equal.equals(from.value, to.value)) return undefined
  return transition(key, inside(from, key, accepts), inside(to, key, accepts))
}

/** A change as a view sees it. */
export const narrow = <A>(event: Changed<A>, accepts: Predicate<A> | undefined): Changed<A> | undefined => {
  if (accepts === undefined) return event
  const { key, revision } = event
  const seen = transition(key, inside(before(event), key, accepts), inside(after(event), key, accepts))
  return seen === undefined ? undefined : { ...seen, revision }
}

const inside = <A>(value: Option.Option<A>, key: string, accepts: Predicate<A> | undefined): Option.Option<A> =>
  accepts === undefined || Option.isNone(value) || accepts(value.value, key) ? value : Option.none()

/** The revision of a change with which others belong together that are still to come: nothing goes on from there. */
const incomplete = 0

/** Changes that belong together: whoever has handled them all, and only then, has been told everything up to `revision`. */
export function* together<A>(changes: Iterable<Change.Change<A>>, revision: number): Generator<Changed<A>> {
  let last: Change.Change<A> | undefined
  for (const change of changes) {
    if (last !== undefined) yield { ...last, revision: incomplete }
    last = change
  }
  if (last !== undefined) yield { ...last, revision }
}
