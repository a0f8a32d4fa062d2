/**
 * The shape of a source's inside: what constructors build, operators change and the engine runs.
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Change from "./Change.js"
import type { RemovalPlan } from "./removalGuard.js"

/** What is left of a change that can no longer be delivered. */
export type Undelivered = Pick<Change.Change<unknown>, "_tag" | "key">

/** What state is bound to; a function where that is for the services to say. */
export type Identity<R> = string | ((services: Context.Context<R>) => string)

export const identityIn = <R>(identity: Identity<R>, services: Context.Context<R>): string =>
  typeof identity === "string" ? identity : identity(services)

/** A codec whose encoded form does not matter. */
export type Codec<A> = Schema.Schema<A, any>

/**
 * What one poll found: the changes since `state` was known, in the order in which they are to be delivered, and the state
 * to poll with next. The same state (`===`) means that nothing needs to be kept.
 *
 * - `more`: the observation is not complete yet, poll again at once [false].
 * - `save`: this state must be durable soon even though there are no changes [false].
 * - `stateAfter`: for sources that replay, the position right behind the change of that index, so that a part of a page can
 *   be committed.
 * - `nameOf`: for sources that replay, what the change of that index is called each time it is read [its key].
 */
export interface Poll<B, S> {
  readonly changes: ReadonlyArray<Change.Change<B>>
  readonly state: S
  readonly more?: boolean
  readonly save?: boolean
  readonly stateAfter?: (index: number) => S
  readonly nameOf?: (index: number) => string
}

/**
 * A codec for large states: a small head and immutable byte blocks. Blocks that did not change must be the same objects
 * (`===`) in the next state, then a save costs what changed. `join` may throw on blocks that it cannot read; `check`, which is
 * called for each block before, is the place to read all of a block, as others get their turn in between.
 */
export interface BlockCodec<S, H = any, I = any> {
  readonly head: Schema.Schema<H, I>
  readonly split: (state: S) => { readonly head: H; readonly blocks: ReadonlyArray<Uint8Array> }
  readonly join: (head: H, blocks: ReadonlyArray<Uint8Array>) => S
  readonly check?: ((block: Uint8Array) => void) | undefined
}

/** What a poll may know beside its state. */
export interface Polled<out D> {
  /** The newest state behind which everything is committed, and saved if there is a checkpoint: nothing in front of it is read again. */
  readonly committed: D
  /** Tells the watchers of one source apart; nothing else. */
  readonly watcher: object
}

/**
 * How a source is observed: what the constructors of `Source` build and a watcher runs. `S` is its state and `B` what it
 * stores; `change` turns what is stored into what is delivered.
 */
export interface Definition<out A, out E, out R, in out S = any, in out B = any, in out D = any> {
  readonly name: string
  readonly identity: Identity<R>
  /** The codec of the durable part of a state. */
  readonly state: BlockCodec<D>
  readonly item: Codec<B>
  readonly initial: S
  readonly poll: (state: S, polled: Polled<D>) => Effect.Effect<Poll<B, S>, E, R>
  /**
   * From stored to delivered; none: the change is left out. `undefined` where both are the same. An `Either`, which is an effect too,
   * costs much less than one that has to run.
   */
  readonly change: ((change: Change.Change<B>) => Effect.Effect<Option.Option<Change.Change<A>>, E, R>) | undefined
  /** The part of a state that is saved; the same (`===`) as before means that there is nothing to save. */
  readonly durable: (state: S) => D
  readonly restore: (durable: D) => S
  /** Whether polling again from an older state gives the same changes again, so that no outbox is needed. */
  readonly replays: boolean
  /** Where a watch with `initial: "suppress"` starts without reading what is there; none: it reads and drops. */
  readonly baseline: Effect.Effect<S, E, R> | undefined
  /** The state after a failed poll. */
  readonly recover: (state: S, error: unknown) => S
  /** The state that finds again what is under these keys: it was observed, but can no longer be delivered. */
  readonly rewind: (state: S, lost: ReadonlyArray<Undelivered>) => S
  /** Removals that are held back. */
  readonly plan: (state: S) => Option.Option<RemovalPlan>
  readonly approve: (state: S) => S
  /** Pokes the watcher when there may be something new, until the scope closes. Must not wait for anything itself. */
  readonly hints?: ((poke: () => void) => Effect.Effect<void, never, R | Scope.Scope>) | undefined
  /** What is handled in order where handlers run side by side [the key]. */
  readonly orderBy?: ((stored: Change.Change<B>) => string) | undefined
  /** Whether a change of which `change` fails with that is put aside [never: the poll fails]. */
  readonly parks?: ((error: unknown) => boolean) | undefined
  readonly timeout: Duration.Duration
  readonly onTimeout: ((timeout: Duration.Duration) => E) | undefined
}
