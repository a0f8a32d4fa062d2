/**
 * Turns what is stored into what is delivered, with an effect only where one is needed.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Utils from "effect/Utils"
import type * as Change from "./Change.js"
import type { Definition } from "./definition.js"

/** The changes that are delivered, each with its place among all that were found. */
export interface Passed {
  readonly stored: ReadonlyArray<Change.Change<unknown>>
  /** `undefined`: it cannot be delivered. */
  readonly delivered: ReadonlyArray<Change.Change<unknown> | undefined>
  readonly positions: ReadonlyArray<number>
  /** Why some cannot be delivered: they are parked with the commit of their batch. */
  readonly errors: ReadonlyMap<number, Cause.Cause<unknown>> | undefined
}

/** The value of an effect that is there already: of an Either. */
export const immediate = <A, E, R>(effect: Effect.Effect<A, E, R>): A | undefined =>
  Either.isEither(effect) && Either.isRight(effect) ? (effect.right as A) : undefined

/** `hasRoom` says whether one more change can be put aside beside `others` of the same poll. */
export function* pass<A, E>(
  changes: ReadonlyArray<Change.Change<unknown>>,
  change: NonNullable<Definition<A, E, never>["change"]>,
  parks: ((error: unknown) => boolean) | undefined,
  hasRoom: (others: number) => boolean
): Generator<Utils.YieldWrap<Effect.Effect<Option.Option<Change.Change<A> | undefined>, E>>, Passed, never> {
  const stored: Array<Change.Change<unknown>> = []
  const delivered: Array<Change.Change<A> | undefined> = []
  const positions: Array<number> = []
  const errors = new Map<number, Cause.Cause<unknown>>()
  const putAside = (cause: Cause.Cause<E>): Effect.Effect<Option.Option<undefined>, E> => {
    const isAside = parks !== undefined && Option.exists(Cause.failureOption(cause), parks) && hasRoom(errors.size)
    if (!isAside) return Effect.failCause(cause)
    errors.set(stored.length, cause)
    return Effect.succeed(Option.some(undefined))
  }
  for (let index = 0; index < changes.length; index++) {
    const found = changes[index]!
    const passing = change(found)
    let passed: Option.Option<Change.Change<A> | undefined> | undefined = immediate(passing)
    if (passed === undefined) {
      const effect: Effect.Effect<Option.Option<Change.Change<A> | undefined>, E> = parks === undefined
        ? passing
        : Effect.catchAllCause(passing, putAside)
      passed = yield* effect
    }
    if (Option.isNone(passed)) continue
    stored.push(found)
    delivered.push(passed.value)
    positions.push(index)
  }
  return { stored, delivered, positions, errors: errors.size === 0 ? undefined : errors }
}
