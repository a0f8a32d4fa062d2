/**
 * What a checkpoint store has to bring of its own: how records are read, replaced and forgotten. Who may do that, and
 * one after the other, is decided in Checkpoints.ts.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"

/** Why a store could not do it, before it is known to whom it happened. No body ever stands in a message. */
export interface Failure {
  readonly reason: "Locked" | "Fenced" | "Corrupt" | "UnknownFormat" | "Unavailable"
  readonly message: string
  readonly cause?: unknown
}

/**
 * A record as it was last saved. `blocks` are the byte strings that `head` refers to by id.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stored {
  readonly rev: number
  readonly head: string
  readonly blocks: ReadonlyMap<string, Uint8Array>
}

/**
 * One atomic replacement of a record: the new `head`, the blocks it gains and the ids of those it no longer needs (first
 * `drop`, then `put`). A block id is never used for two different contents. `rev` grows with every attempt, also with a
 * failed one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Save {
  readonly rev: number
  readonly head: string
  readonly put: ReadonlyArray<readonly [id: string, bytes: Uint8Array]>
  readonly drop: ReadonlyArray<string>
}

/** A record in the hands of one claim. `save` is called by one fiber at a time and is not interrupted. */
export interface OpenRecord {
  readonly stored: Option.Option<Stored>
  readonly save: (next: Save) => Effect.Effect<void, Failure>
}

/** The store itself. `open` and `remove` of one record never run together, nor with a save of it. */
export interface RecordStore {
  /** A number greater than all it gave before, also to earlier processes where the store outlives them. */
  readonly nextFence: Effect.Effect<number, Failure>
  readonly open: (checkpoint: string, fence: number) => Effect.Effect<OpenRecord, Failure>
  readonly remove: (checkpoint: string) => Effect.Effect<boolean, Failure>
  readonly list: Effect.Effect<ReadonlyArray<string>, Failure>
}

/** Says that a save comes too late: the record holds a revision that is not older. */
export const staleRev = (rev: number, stored: number): Failure => ({
  reason: "Fenced",
  message: `revision ${rev} was refused because revision ${stored} is stored already: another owner has saved since`
})

/** How many claims one generation of a store can number before it needs the next. */
export const fencesPerGeneration: number = 2 ** 20

/**
 * Numbers claims by generations: a store persists one small number now and then (at start, and every million claims),
 * not one a claim, and still no number comes twice.
 */
export const makeFences = (
  nextGeneration: Effect.Effect<number, Failure>,
  perGeneration: number = fencesPerGeneration
): Effect.Effect<number, Failure> => {
  const turn = Effect.unsafeMakeSemaphore(1)
  let last = 0
  let end = 0
  const next = Effect.suspend(() =>
    last + 1 < end
      ? Effect.succeed(++last)
      : Effect.map(nextGeneration, (generation) => {
          last = generation * perGeneration
          end = last + perGeneration
          return last
        })
  )
  return turn.withPermits(1)(next)
}
