/**
 * Checkpoint records in a `Map`: gone with the process.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Stored, RecordStore } from "./recordStore.js"
import { staleRev } from "./recordStore.js"

interface Mutable {
  readonly rev: number
  readonly head: string
  readonly blocks: Map<string, Uint8Array>
}

// Bytes are copied on the way in and out, as any other store does: nobody changes a record by changing an array.
const copy = ({ rev, head, blocks }: Mutable): Stored => ({
  rev,
  head,
  blocks: new Map(Array.from(blocks, ([id, bytes]) => [id, bytes.slice()]))
})

export const makeMemory = (): RecordStore => {
  const records = new Map<string, Mutable>()
  let fence = 0
  return {
    nextFence: Effect.sync(() => ++fence),
    open: (checkpoint) =>
      Effect.sync(() => ({
        stored: Option.map(Option.fromNullable(records.get(checkpoint)), copy),
        save: ({ rev, head, put, drop }) =>
          Effect.suspend(() => {
            const old = records.get(checkpoint)
            if (old !== undefined && !(rev > old.rev)) return Effect.fail(staleRev(rev, old.rev))
            const blocks = old?.blocks ?? new Map<string, Uint8Array>()
            for (const id of drop) blocks.delete(id)
            for (const [id, bytes] of put) blocks.set(id, bytes.slice())
            records.set(checkpoint, { rev, head, blocks })
            return Effect.void
          })
      })),
    remove: (checkpoint) => Effect.sync(() => records.delete(checkpoint)),
    list: Effect.sync(() => Array.from(records.keys()).sort())
  }
}
