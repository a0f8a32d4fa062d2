import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { assert, describe, it } from "@effect/vitest"
import { Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as double from "./server.js"

const clients: ReadonlyArray<readonly [name: string, layer: Layer.Layer<HttpClient.HttpClient>]> = [
  ["NodeClient.layer", NodeClient.layer({ proxy: "none" })],
  ["FetchHttpClient.layer", FetchHttpClient.layer],
  ["NodeHttpClient.layer", NodeHttpClient.layer]
]

const Item = Schema.Struct({ id: Schema.Number, n: Schema.Number })

const eventually = (what: () => boolean): Effect.Effect<void> =>
  Effect.sync(what).pipe(
    Effect.delay("5 millis"),
    Effect.repeat({ until: (done) => done }),
    Effect.timeoutOption("10 seconds"),
    Effect.map((done) => assert.isTrue(Option.isSome(done), `still not so after 10 seconds: ${what}`))
  )

/** Pages of 400 behind Link headers; a list of one page has an ETag. */
const serve = (server: double.TestServer, all: ReadonlyArray<typeof Item.Type>): void =>
  server.answer((request, response) => {
    const page = Number(new URL(request.url!, server.origin).searchParams.get("page") ?? 1)
    const isLast = all.length <= page * 400
    const headers = isLast ? {} : { link: `</list?page=${page + 1}>; rel="next"` }
    const body = JSON.stringify(all.slice((page - 1) * 400, page * 400))
    double.content(body, all.length <= 400 ? { etag: `"${body.length}"` } : { headers })(request, response)
  })

for (const [name, client] of clients) {
  describe(`HttpSource.collection over ${name}`, () => {
    it.scopedLive("H10 follows a list of pages through cuts and errors, and one page by its ETag", () =>
      Effect.gen(function* () {
        const server = yield* double.startServer
        let all = Array.from({ length: 1000 }, (_, id) => ({ id, n: 0 }))
        const seen = new Map<string, number>()
        const told: Array<string> = []
        const source = HttpSource.collection({ url: server.url("/list"), item: Item, key: ({ id }) => String(id) })
        serve(server, all)
        yield* Watcher.runForEach(
          source,
          (change) =>
            Effect.sync(() => {
              if (change._tag === "Removed") seen.delete(change.key)
              else seen.set(change.key, change.value.n)
              if (change._tag !== "Added") told.push(`${change._tag} ${change.key}`)
            }),
          { interval: "10 millis", maxBackoff: "20 millis" }
        ).pipe(Logger.withMinimumLogLevel(LogLevel.None), Effect.provide(client), Effect.fork)
        yield* eventually(() => seen.size === 1000)
        // the second page breaks off, fails, and is no list; nothing is removed by that
        for (const behaviour of [
          double.truncated('[{"id":1'),
          double.truncatedChunked("["),
          double.status(500),
          double.status(404),
          double.content('{"error":"later"}')
        ]) {
          const before = server.requests.length
          serve(server, all)
          server.route("/list", (request, response) =>
            request.url!.includes("page=2")
              ? behaviour(request, response)
              : double.content(JSON.stringify(all.slice(0, 400)), { headers: { link: "<?page=2>; rel=next" } })(
                  request,
                  response
                )
          )
          yield* eventually(() => server.requests.slice(before).filter(({ url }) => url.includes("page=2")).length > 1)
        }
        assert.deepStrictEqual([seen.size, told], [1000, []])
        all = all.filter(({ id }) => id !== 999).map((item) => (item.id === 500 ? { ...item, n: 1 } : item))
        server.unroute("/list")
        serve(server, all)
        yield* eventually(() => !seen.has("999"))
        assert.deepStrictEqual([seen.size, told], [999, ["Modified 500", "Removed 999"]])
        // few enough for one page: most are held back for three walks, then it is asked for by its ETag
        all = all.slice(0, 3)
        serve(server, all)
        yield* eventually(() => seen.size === 3)
        const before = server.requests.length
        yield* eventually(() => server.requests.length > before + 5)
        assert.isTrue(server.requests.slice(before + 2).every(({ headers }) => headers["if-none-match"] !== undefined))
        assert.deepStrictEqual(
          [...seen],
          [...all].map(({ id, n }) => [String(id), n])
        )
      })
    )
  })
}
