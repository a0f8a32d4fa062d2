/**
 * Watches the objects of a store that the command line opens.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Source from "../core/Source.js"
import * as ObjectSource from "../objects/ObjectSource.js"
import { ObjectStore } from "../objects/ObjectStore.js"
import { prefixOf } from "./objectOptions.js"
import type { Plan, PlannedObjects } from "./plan.js"
import { Progress } from "./progress.js"
import * as stores from "./stores.js"
import type { Watched } from "./watched.js"

export const make = (
  planned: PlannedObjects,
  { timeoutMillis: timeout }: Plan,
  tells: boolean
): Effect.Effect<Watched, stores.CannotOpen, HttpClient.HttpClient> =>
  Effect.map(stores.open(planned, timeout), ({ missing, store }) => {
    const { options, target } = planned
    const progress = new Progress(target.name, tells)
    const source = ObjectSource.make({
      name: target.name,
      prefix: prefixOf(target),
      rawPrefix: options.rawPrefix,
      snapshot: options.compact ? "compact" : "metadata",
      minAge: options.minAgeMillis,
      removalGuard: options.maxRemovedRatio === false ? false : { maxRemovedRatio: options.maxRemovedRatio },
      timeout
    })
    const { definition } = Source.provideContext(source, Context.make(ObjectStore, progress.counting(store)))
    return {
      source: Source.fromDefinition({
        ...definition,
        poll: (state, polled) => Effect.mapError(definition.poll(state, polled), (error) => missing() ?? error)
      }),
      progress
    }
  })
