/**
 * What a stream says that could not keep up: some of its items are missing.
 *
 * It is an item, not an error: the stream goes on, and whoever acts on levels looks at everything once.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"

/**
 * `missed` items were dropped in this place; `undefined`: nobody knows how many.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lagged {
  readonly _tag: "Lagged"
  readonly missed: number | undefined
}

/**
 * Makes the item.
 *
 * **Example**
 * ```ts
 * import { Lagged } from "effect-periscope/control"
 *
 * Lagged.make(3) // => { _tag: "Lagged", missed: 3 }
 * Lagged.isLagged(Lagged.make()) // => true
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (missed?: number): Lagged => ({ _tag: "Lagged", missed })

/**
 * Whether an item of a stream says that others are missing.
 *
 * **Example** See {@link make}.
 *
 * @category guards
 * @since 0.1.0
 */
export const isLagged = (item: unknown): item is Lagged => Predicate.isTagged(item, "Lagged")
