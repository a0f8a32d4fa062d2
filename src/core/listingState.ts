/**
 * What a listing knows between two polls, and how the part of it is saved that outlives a crash.
 */
import * as Schema from "effect/Schema"
import * as block from "./block.js"
import type { BlockCodec } from "./definition.js"
import type { KeySet } from "./keySet.js"
import * as keySet from "./keySet.js"
import type { RemovalPlan } from "./removalGuard.js"
import * as snapshot from "./snapshot.js"

/** A walk under way, in memory only. */
export interface Walk {
  readonly token: unknown
  /** An earlier token, to find circles: that of the last page whose number is a power of two. */
  readonly mark: unknown
  readonly pages: number
  readonly failures: number
  readonly seen: snapshot.Seen
}

/** What is saved. */
export interface Kept {
  readonly snapshot: snapshot.Snapshot
  /** How many keys were known after the last walk that the guard believed. */
  readonly known: number
  readonly plan: HeldPlan | undefined
  /** Keys that are not removed yet, and how many complete walks in a row missed them. */
  readonly missed: ReadonlyMap<string, number>
  /** Released, and to be reported before anything else. */
  readonly removing: KeySet
}

/** A plan whose keys stay packed until somebody reads them. */
export class HeldPlan implements RemovalPlan {
  private texts: ReadonlyArray<string> | undefined

  constructor(
    readonly set: KeySet,
    readonly listings: number,
    readonly confirmListings: number
  ) {}

  get count(): number {
    return this.set.count
  }

  get keys(): ReadonlyArray<string> {
    return (this.texts ??= keySet.texts(this.set))
  }
}

/** What is held back: by the guard, and until more walks have missed it. */
export type Held = Pick<Kept, "plan" | "missed">

export interface ListingState {
  readonly kept: Kept
  readonly walk: Walk | undefined
  /** The plan was approved during a walk. */
  readonly approved: boolean
  /** A walk has just ended, so that the last release completes the observation. */
  readonly closing: boolean
  /** Of a last walk with one page, after which nothing was held back. */
  readonly validator: unknown
}

export const restore = (kept: Kept): ListingState => ({
  kept,
  walk: undefined,
  approved: false,
  closing: false,
  validator: undefined
})

export const none: ReadonlyMap<string, number> = new Map()

export const initial: ListingState = restore({
  snapshot: snapshot.empty,
  known: 0,
  plan: undefined,
  missed: none,
  removing: keySet.empty
})

// sets of keys are told by the number of their blocks
const Head = Schema.Struct({
  known: Schema.Int,
  plan: Schema.optionalWith(
    Schema.Struct({ blocks: Schema.NonNegativeInt, listings: Schema.Int, confirmListings: Schema.Int }),
    { exact: true }
  ),
  missed: Schema.optionalWith(Schema.Array(Schema.Tuple(Schema.String, Schema.Int)), { exact: true }),
  removing: Schema.optionalWith(Schema.NonNegativeInt, { exact: true })
})

export const codec: BlockCodec<Kept, typeof Head.Type, typeof Head.Encoded> = {
  head: Head,
  split: ({ known, missed, plan, removing, snapshot }) => ({
    head: {
      known,
      ...(plan === undefined
        ? {}
        : { plan: { blocks: plan.set.blocks.length, listings: plan.listings, confirmListings: plan.confirmListings } }),
      ...(missed.size === 0 ? {} : { missed: [...missed] }),
      ...(removing.count === 0 ? {} : { removing: removing.blocks.length })
    },
    blocks: [...snapshot.blocks, ...(plan?.set.blocks ?? []), ...removing.blocks].map(({ bytes }) => bytes)
  }),
  join: ({ known, missed, plan, removing = 0 }, blocks) => {
    const planned = plan?.blocks ?? 0
    const own = blocks.length - planned - removing
    if (own < 0) throw new Error("a snapshot has fewer blocks than it says")
    return {
      snapshot: snapshot.fromBlocks(blocks.slice(0, own)),
      known,
      plan:
        plan === undefined
          ? undefined
          : new HeldPlan(snapshot.fromBlocks(blocks.slice(own, own + planned)), plan.listings, plan.confirmListings),
      missed: new Map(missed),
      removing: snapshot.fromBlocks(blocks.slice(own + planned))
    }
  },
  check: block.check
}
