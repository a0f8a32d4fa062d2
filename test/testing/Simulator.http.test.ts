import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { assert, describe, it } from "@effect/vitest"
import { Source } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import type { ScriptedSource } from "effect-periscope/testing"
import { Simulator } from "effect-periscope/testing"
import { Context, Effect, Option, Schema } from "effect"
import { crashes, fired, holds, remoteFaults, storeFaults } from "./simulation.js"

const trials = 400

type Reply = { readonly status: number; readonly headers?: Record<string, string>; readonly body?: unknown }

/** Lets a remote be asked over HTTP: its faults become what a client sees of such a server. */
const over = (
  answer: (request: HttpClientRequest.HttpClientRequest, url: URL) => Effect.Effect<Reply, ScriptedSource.Failure>
) =>
  Context.make(
    HttpClient.HttpClient,
    HttpClient.make((request, url) =>
      answer(request, url).pipe(
        Effect.catchAll((error): Effect.Effect<Reply, HttpClientError.RequestError> => {
          if (error._tag === "FatalRemoteError") return Effect.succeed({ status: 403 })
          if (error.reason === "StaleToken") return Effect.succeed({ status: 410 })
          if (error.reason === "Truncated") return Effect.succeed({ status: 200, body: '[{"key":"a' })
          return Effect.fail(new HttpClientError.RequestError({ request, reason: "Transport" }))
        }),
        Effect.map(({ body, headers = {}, status }) => {
          const content = typeof body === "string" || body === undefined ? (body ?? null) : JSON.stringify(body)
          return HttpClientResponse.fromWeb(request, new Response(content, { status, headers }))
        })
      )
    )
  )

const Item = Schema.Struct({ key: Schema.String, value: Schema.Number })

let notModified = 0

const collection = (remote: ScriptedSource.Remote<number>) => {
  const source = HttpSource.collection({
    url: "http://example.com/items",
    item: Item,
    key: ({ key }) => key,
    timeout: "2 minutes"
  })
  const client = over((request, url) =>
    Effect.map(remote.page(url.searchParams.get("after") ?? undefined), ({ items, next }): Reply => {
      const etag = JSON.stringify(remote.world.revision)
      if (next === undefined && request.headers["if-none-match"] === etag) {
        notModified++
        return { status: 304, headers: { etag } }
      }
      const link = next === undefined ? {} : { link: `<?after=${encodeURIComponent(next)}>; rel="next"` }
      return { status: 200, headers: { etag, ...link }, body: items }
    })
  )
  return Source.map(Source.provideContext(source, client), ({ value }) => value)
}

const document = (remote: ScriptedSource.Remote<number>) => {
  const source = HttpSource.make({ url: "http://example.com/document", schema: Schema.Number, timeout: "2 minutes" })
  const client = over((request) =>
    Effect.flatMap(remote.fetch("document", request.headers["if-none-match"]), (response) =>
      response.status === 200
        ? Effect.map(response.body, (body): Reply => ({ status: 200, headers: { etag: response.etag }, body }))
        : Effect.succeed<Reply>({ status: response.status })
    )
  )
  const { definition } = Source.provideContext(source, client)
  // the world knows the document by another key than its address
  return Source.fromDefinition({
    ...definition,
    change: (change) =>
      Effect.map(definition.change!(change), (made) => Option.map(made, (one) => ({ ...one, key: "document" })))
  })
}

describe("Simulator: sources over HTTP", () => {
  it("H10 a collection keeps every promise over random crashes", { timeout: 300_000 }, async () => {
    const listing = Simulator.listing(collection)
    // of several pages, a removal is confirmed by a second walk
    const subject = (stage: Simulator.Stage) => ({ ...listing(stage), settlesAfter: 2 })
    const report = await holds("collection over HTTP, random", Simulator.run({ mode: "listing", subject, trials }))
    assert.isAbove(report.crashes, 3 * trials)
    assert.isAbove(notModified, 100)
    fired(report, [...storeFaults, ...crashes, ...remoteFaults, "staleToken", "empty", "reordered", "duplicated"])
  })

  it("H1 a document keeps every promise over random crashes", { timeout: 300_000 }, async () => {
    const report = await holds(
      "document over HTTP, random",
      Simulator.run({ mode: "document", subject: Simulator.document(document), trials })
    )
    assert.isAbove(report.crashes, 2 * trials)
    fired(report, [...storeFaults, ...crashes, ...remoteFaults])
  })
})
