/**
 * What a source reports: a value that appeared, changed or disappeared under a key.
 *
 * Changes are plain immutable objects: they encode with {@link schema} and cost no more than the object they are.
 * `Equal.equals` compares them by reference.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * Says that a key is there that was not there before (or, at first sight, that it is there at all).
 *
 * @category models
 * @since 0.1.0
 */
export interface Added<out A> {
  readonly _tag: "Added"
  readonly key: string
  readonly value: A
}

/**
 * Says that the value under a key is another one than before. `previous` is the last known value, where the source
 * keeps it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Modified<out A> {
  readonly _tag: "Modified"
  readonly key: string
  readonly value: A
  readonly previous: Option.Option<A>
}

/**
 * Says that a key is gone: it was absent from a complete and successful observation. `previous` is the last known
 * value, where the source keeps it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Removed<out A> {
  readonly _tag: "Removed"
  readonly key: string
  readonly previous: Option.Option<A>
}

/**
 * A change of one key.
 *
 * @category models
 * @since 0.1.0
 */
export type Change<A> = Added<A> | Modified<A> | Removed<A>

/**
 * Makes an {@link Added}.
 *
 * **Example**
 * ```ts
 * import { Change } from "effect-periscope"
 *
 * Change.added("dark-mode", true) // => { _tag: "Added", key: "dark-mode", value: true }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const added = <A>(key: string, value: A): Added<A> => ({ _tag: "Added", key, value })

/**
 * Makes a {@link Modified}; without `previous` the last known value is unknown.
 *
 * **Example**
 * ```ts
 * import { Option } from "effect"
 * import { Change } from "effect-periscope"
 *
 * Change.modified("dark-mode", false, Option.some(true)).previous // => Option.some(true)
 * Change.modified("dark-mode", false).previous // => Option.none()
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const modified = <A>(key: string, value: A, previous: Option.Option<A> = Option.none()): Modified<A> => ({
  _tag: "Modified",
  key,
  value,
  previous
})

/**
 * Makes a {@link Removed}; without `previous` the last known value is unknown.
 *
 * **Example**
 * ```ts
 * import { Option } from "effect"
 * import { Change } from "effect-periscope"
 *
 * Change.removed("dark-mode", Option.some(true)).previous // => Option.some(true)
 * Change.removed("dark-mode").previous // => Option.none()
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const removed = <A = never>(key: string, previous: Option.Option<A> = Option.none()): Removed<A> => ({
  _tag: "Removed",
  key,
  previous
})

/**
 * Picks a function by the kind of a change.
 *
 * **Example**
 * ```ts
 * import { Change } from "effect-periscope"
 *
 * const line = Change.match({
 *   onAdded: ({ key }) => `+ ${key}`,
 *   onModified: ({ key }) => `~ ${key}`,
 *   onRemoved: ({ key }) => `- ${key}`
 * })
 *
 * line(Change.added("dark-mode", true)) // => "+ dark-mode"
 * ```
 *
 * @category pattern matching
 * @since 0.1.0
 */
export const match: {
  <A, B, C, D>(cases: {
    readonly onAdded: (change: Added<A>) => B
    readonly onModified: (change: Modified<A>) => C
    readonly onRemoved: (change: Removed<A>) => D
  }): (self: Change<A>) => B | C | D
  <A, B, C, D>(
    self: Change<A>,
    cases: {
      readonly onAdded: (change: Added<A>) => B
      readonly onModified: (change: Modified<A>) => C
      readonly onRemoved: (change: Removed<A>) => D
    }
  ): B | C | D
} = dual(
  2,
  <A, B, C, D>(
    self: Change<A>,
    cases: {
      readonly onAdded: (change: Added<A>) => B
      readonly onModified: (change: Modified<A>) => C
      readonly onRemoved: (change: Removed<A>) => D
    }
  ): B | C | D => {
    switch (self._tag) {
      case "Added":
        return cases.onAdded(self)
      case "Modified":
        return cases.onModified(self)
      case "Removed":
        return cases.onRemoved(self)
    }
  }
)

/**
 * Applies a function to the values of a change, also to the last known one.
 *
 * **Example**
 * ```ts
 * import { Option } from "effect"
 * import { Change } from "effect-periscope"
 *
 * const change = Change.modified("price", 200, Option.some(150))
 * Change.map(change, (cents) => cents / 100) // => Change.modified("price", 2, Option.some(1.5))
 * ```
 *
 * @category mapping
 * @since 0.1.0
 */
export const map: {
  <A, B>(f: (value: A) => B): (self: Change<A>) => Change<B>
  <A, B>(self: Change<A>, f: (value: A) => B): Change<B>
} = dual(2, <A, B>(self: Change<A>, f: (value: A) => B): Change<B> => {
  switch (self._tag) {
    case "Added":
      return added(self.key, f(self.value))
    case "Modified":
      return modified(self.key, f(self.value), Option.map(self.previous, f))
    case "Removed":
      return removed(self.key, Option.map(self.previous, f))
  }
})

/**
 * Narrows a change to a part of the values: a value that leaves the part is a {@link Removed}, one that enters it an
 * {@link Added}, one that was never in it nothing.
 *
 * **Gotchas** Where the last known value is unknown it may have been inside, so a Modified that fails the predicate is
 * a Removed, and a Removed stays one: a consumer never keeps what it should have dropped.
 *
 * **Example**
 * ```ts
 * import { Option } from "effect"
 * import { Change } from "effect-periscope"
 *
 * const isLarge = Change.filter((bytes: number) => bytes >= 100)
 *
 * isLarge(Change.added("a", 50)) // => Option.none()
 * isLarge(Change.modified("a", 150, Option.some(50))) // => Option.some(Change.added("a", 150))
 * isLarge(Change.modified("a", 50, Option.some(150))) // => Option.some(Change.removed("a", Option.some(150)))
 * ```
 *
 * @category filtering
 * @since 0.1.0
 */
export const filter: {
  <A>(predicate: (value: A) => boolean): (self: Change<A>) => Option.Option<Change<A>>
  <A>(self: Change<A>, predicate: (value: A) => boolean): Option.Option<Change<A>>
} = dual(2, <A>(self: Change<A>, predicate: (value: A) => boolean): Option.Option<Change<A>> => {
  switch (self._tag) {
    case "Added":
      return predicate(self.value) ? Option.some(self) : Option.none()
    case "Modified": {
      const wasOutside = Option.isSome(self.previous) && !predicate(self.previous.value)
      if (predicate(self.value)) return Option.some(wasOutside ? added(self.key, self.value) : self)
      return wasOutside ? Option.none() : Option.some(removed(self.key, self.previous))
    }
    case "Removed":
      return Option.isSome(self.previous) && !predicate(self.previous.value) ? Option.none() : Option.some(self)
  }
})

/**
 * The encoded form of a change: what checkpoints and NDJSON lines hold.
 *
 * @category schemas
 * @since 0.1.0
 */
export type Encoded<I> =
  | { readonly _tag: "Added"; readonly key: string; readonly value: I }
  | { readonly _tag: "Modified"; readonly key: string; readonly value: I; readonly previous?: I }
  | { readonly _tag: "Removed"; readonly key: string; readonly previous?: I }

/**
 * Makes the codec of changes from the codec of their values. An unknown `previous` is an absent field.
 *
 * **Example**
 * ```ts
 * import { Option, Schema } from "effect"
 * import { Change } from "effect-periscope"
 *
 * const codec = Change.schema(Schema.NumberFromString)
 *
 * Schema.encodeSync(codec)(Change.added("a", 1)) // => { _tag: "Added", key: "a", value: "1" }
 * Schema.decodeSync(codec)({ _tag: "Removed", key: "a", previous: "1" }) // => Change.removed("a", Option.some(1))
 * Schema.decodeSync(codec)({ _tag: "Removed", key: "a" }) // => Change.removed("a")
 * ```
 *
 * @category schemas
 * @since 0.1.0
 */
export const schema = <A, I, R>(item: Schema.Schema<A, I, R>): Schema.Schema<Change<A>, Encoded<I>, R> => {
  const previous = Schema.optionalWith(item, { as: "Option", exact: true })
  return Schema.Union(
    Schema.Struct({ _tag: Schema.Literal("Added"), key: Schema.String, value: item }),
    Schema.Struct({ _tag: Schema.Literal("Modified"), key: Schema.String, value: item, previous }),
    Schema.Struct({ _tag: Schema.Literal("Removed"), key: Schema.String, previous })
  )
}

/**
 * Decodes a change value by value: the value must decode, a `previous` that does not is unknown. So a stored change
 * outlives a change of its codec.
 *
 * **Example**
 * ```ts
 * import { Effect, Option, Schema } from "effect"
 * import { Change } from "effect-periscope"
 *
 * const parse = Schema.decode(Schema.NumberFromString)
 * const stored = Change.modified("a", "2", Option.some("one"))
 *
 * Effect.runSync(Change.traverse(stored, parse)) // => Change.modified("a", 2, Option.none())
 * ```
 *
 * @category mapping
 * @since 0.1.0
 */
export const traverse: {
  <A, B, E, R>(decode: (value: A) => Effect.Effect<B, E, R>): (self: Change<A>) => Effect.Effect<Change<B>, E, R>
  <A, B, E, R>(self: Change<A>, decode: (value: A) => Effect.Effect<B, E, R>): Effect.Effect<Change<B>, E, R>
} = dual(
  2,
  <A, B, E, R>(self: Change<A>, decode: (value: A) => Effect.Effect<B, E, R>): Effect.Effect<Change<B>, E, R> => {
    const previous = (value: Option.Option<A>): Effect.Effect<Option.Option<B>, never, R> =>
      Option.isNone(value) ? Effect.succeedNone : Effect.option(decode(value.value))
    switch (self._tag) {
      case "Added":
        return Effect.map(decode(self.value), (value) => added(self.key, value))
      case "Modified":
        return Effect.zipWith(decode(self.value), previous(self.previous), (value, before) =>
          modified(self.key, value, before)
        )
      case "Removed":
        return Effect.map(previous(self.previous), (before) => removed(self.key, before))
    }
  }
)
