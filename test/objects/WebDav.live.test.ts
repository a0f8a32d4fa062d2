import { afterAll, beforeAll, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { ObjectStore, WebDav } from "effect-periscope/objects"
import { ObjectStoreContract } from "effect-periscope/testing"
import { isInstalled } from "../servers/installed.js"
import { apache, basicAuth, startWebDav } from "./webDavServer.js"

describe.skipIf(!isInstalled(apache))("WebDav on Apache", () => {
  const scope = Effect.runSync(Scope.make())
  let server: Effect.Effect.Success<typeof startWebDav>
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.extend(startWebDav, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  const storeAt = (url: string) =>
    Effect.map(Layer.build(Layer.provide(WebDav.layer({ url, basicAuth }), NodeClient.layer())), (context) =>
      Context.get(context, ObjectStore.ObjectStore)
    )

  ObjectStoreContract.suite(
    { describe, it },
    {
      name: "WebDAV",
      order: "utf8",
      wrongToken: "StaleToken",
      cannotHold: [
        "dots",
        "dotSegments",
        "emptySegments",
        "leadingSlash",
        "trailingSlash",
        "besideFolders",
        "nul",
        "longSegments"
      ],
      make: Effect.suspend(() => Effect.flatMap(server.folder, ({ url }) => storeAt(url))),
      missing: Effect.suspend(() => storeAt(`${server.url}missing/`))
    }
  )
})
