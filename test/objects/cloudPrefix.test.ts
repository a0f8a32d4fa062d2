import { HttpClient, HttpClientResponse } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import { Azure, Gcs } from "effect-periscope/objects"

const answering = (body: string) =>
  HttpClient.make((request) => Effect.sync(() => HttpClientResponse.fromWeb(request, new Response(body))))

const gcsPage = JSON.stringify({
  kind: "storage#objects",
  items: [{ name: "elsewhere", size: "1", generation: "1", updated: "2026-01-01T00:00:00Z" }]
})

const azurePage = `<?xml version="1.0"?><EnumerationResults><Blobs><Blob><Name>elsewhere</Name><Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>"1"</Etag><Content-Length>1</Content-Length></Properties></Blob></Blobs><NextMarker/></EnumerationResults>`

describe("a server, or a proxy before it, that leaves out the prefix", () => {
  it.effect("O4 gives no page: its keys are not below it", () =>
    Effect.gen(function* () {
      const gcs = yield* Effect.provideService(
        Gcs.make({ bucket: "bucket", credentials: "anonymous" }),
        HttpClient.HttpClient,
        answering(gcsPage)
      )
      const azure = yield* Effect.provideService(
        Azure.make({ container: "container", account: "account", credentials: "anonymous" }),
        HttpClient.HttpClient,
        answering(azurePage)
      )
      for (const store of [gcs, azure]) {
        const page = yield* Effect.either(store.listPage({ prefix: "configs/" }))
        assert.strictEqual(Either.isLeft(page) ? page.left.reason : page.right.objects.length, "Decode")
        assert.strictEqual((yield* store.listPage({ prefix: "else" })).objects.length, 1)
      }
    })
  )
})
