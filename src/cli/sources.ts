/**
 * Makes the source of what was planned: its state belongs to one address under one name, and another one is refused.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Source from "../core/Source.js"
import * as HttpSource from "../http/HttpSource.js"
import * as listed from "./listed.js"
import * as logPeer from "./logPeer.js"
import type { Plan, PlannedHttp, PlannedPolled } from "./plan.js"
import { isHttp, isObjects } from "./plan.js"
import type { CannotOpen } from "./stores.js"
import type { Watched } from "./watched.js"

/** `tells`: says on the log how far a long first listing is. */
export const make = (
  planned: PlannedPolled,
  plan: Plan,
  tells: boolean
): Effect.Effect<Watched, CannotOpen, HttpClient.HttpClient | Scope.Scope> => {
  if (isHttp(planned)) return Effect.sync(() => ({ source: overHttp(planned, plan), progress: undefined }))
  // who watches one kind of source does not wait for the others to be loaded
  return isObjects(planned)
    ? Effect.flatMap(
        Effect.promise(() => import("./objects.js")),
        (objects) => objects.make(planned, plan, tells)
      )
    : Effect.flatMap(
        logPeer.load("a change log", logPeer.common, () => import("./logs.js")),
        (logs) => logs.make(planned, plan)
      )
}

const overHttp = ({ bearerToken, headers, paths, target }: PlannedHttp, plan: Plan): Watched["source"] => {
  const { maxBodyBytes, timeoutMillis: timeout } = plan
  const options: HttpSource.RequestOptions = { url: target.url, headers, bearerToken, maxBodyBytes, timeout }
  const source: Watched["source"] = paths === undefined ? HttpSource.make(options) : listed.make(paths, options)
  const { definition } = source
  // a name stands for the query too: that may hold a signature which changes from run to run
  const address = target.isNamed ? `http:${target.name}=${target.publicUrl}` : definition.identity
  const identity = paths === undefined ? address : `${address}#${paths.items.path},${paths.key.path}`
  return Source.fromDefinition({ ...definition, name: target.name, identity })
}
