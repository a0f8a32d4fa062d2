/**
 * The streams that a controller listens to, as its types carry them.
 */
import type * as Stream from "effect/Stream"
import type { Lagged } from "./Lagged.js"

/**
 * Streams of events: anything, such as `Watcher.changes(source)`, a `PubSub`, a timer. One that ends or fails is started again, after
 * 100 milliseconds doubling to 30 seconds, and counts as an event then. An item that is `Lagged` always does.
 *
 * They are an argument of their own, before the options: so TypeScript knows their events where it looks at `filter`.
 */
export type Watches = ReadonlyArray<AnyStream>

/** Any `Stream`: with type arguments here, a stream that is made in place would get those. */
export interface AnyStream {
  readonly [Stream.StreamTypeId]: unknown
}

type ItemOf<S> = S extends Stream.Stream<infer A, infer _E, infer _R> ? A : never
type ContextOf<S> = S extends Stream.Stream<infer _A, infer _E, infer R> ? R : never

/** The events of some watches. */
export type Event<W extends Watches> = Exclude<ItemOf<W[number]>, Lagged>

/** The services that some watches need. */
export type WatchServices<W extends Watches> = ContextOf<W[number]>
