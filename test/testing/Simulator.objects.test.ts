import { assert, describe, it } from "@effect/vitest"
import { Source } from "effect-periscope"
import { ObjectSource, ObjectStore } from "effect-periscope/objects"
import type { ScriptedSource } from "effect-periscope/testing"
import { Simulator } from "effect-periscope/testing"
import { Context, Effect } from "effect"
import { crashes, fired, holds, remoteFaults, storeFaults } from "./simulation.js"

const trials = 1000

/** What different stores say of an object: each alone tells two of its states apart. */
const metas: ReadonlyArray<(key: string, value: number) => ObjectStore.ObjectMeta> = [
  (key, value) => ({ key, size: value, etag: `"${value}"`, lastModifiedMillis: 0 }),
  (key, value) => ({ key, size: value, etag: `"${value}"`, version: "same", lastModifiedMillis: value }),
  (key, value) => ({ key, size: value, version: `${value},` }),
  (key, value) => ({ key, size: value, lastModifiedMillis: 1_700_000_000_000 }),
  (key, value) => ({ key, size: value })
]

const reasonOf = (error: ScriptedSource.Failure): ObjectStore.Reason => {
  if (error._tag === "FatalRemoteError") return "Unauthorized"
  return error.reason === "StaleToken" || error.reason === "Truncated" ? error.reason : "Network"
}

let made = 0

const objects = (snapshot: "metadata" | "compact") => (remote: ScriptedSource.Remote<number>) => {
  const describeObject = metas[made++ % metas.length]!
  const unsupported = () => Effect.dieMessage("a source only lists")
  const store = ObjectStore.make({
    identity: "scripted://",
    listPage: ({ token } = {}) =>
      Effect.mapBoth(remote.page(token), {
        onSuccess: ({ items, next }) => ({
          objects: items.map(({ key, value }) => describeObject(key, value)),
          ...(next === undefined ? {} : { next })
        }),
        onFailure: (error) =>
          new ObjectStore.ObjectStoreError({
            reason: reasonOf(error),
            store: "scripted://",
            operation: "listPage",
            message: "scripted"
          })
      }),
    head: unsupported,
    get: unsupported as never,
    put: unsupported,
    remove: unsupported
  })
  const source = ObjectSource.make({ snapshot, timeout: "2 minutes" })
  return Source.map(Source.provideContext(source, Context.make(ObjectStore.ObjectStore, store)), ({ size }) => size)
}

describe("Simulator: the objects of a store", () => {
  for (const snapshot of ["metadata", "compact"] as const) {
    it(
      `O1 O2 O3 O5 ObjectSource keeps every promise over random crashes, ${snapshot}`,
      { timeout: 300_000 },
      async () => {
        const subject = Simulator.listing(objects(snapshot))
        const report = await holds(`objects, ${snapshot}, random`, Simulator.run({ mode: "listing", subject, trials }))
        assert.isAbove(report.crashes, 3 * trials)
        fired(report, [...storeFaults, ...crashes, ...remoteFaults, "staleToken", "empty", "reordered", "duplicated"])
      }
    )
  }
})
