/**
 * Goal: the normal chains of the clouds give tokens, and their failures come in our own words. Method: the official packages against
 * doubles on loopback of what they ask: a metadata server and a token endpoint of Google, the identity endpoint of Azure.
 */
import { assert, describe, it } from "@effect/vitest"
import type { AccessToken } from "effect-periscope/objects"
import * as AzureCredentials from "effect-periscope/objects/AzureCredentials"
import * as GcsCredentials from "effect-periscope/objects/GcsCredentials"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { inspect } from "node:util"
import { freePort } from "../servers/serverProcess.js"
import type { Behaviour } from "../http/server.js"
import { startServer } from "../http/server.js"

/** Only what is given, of all that these packages look at. */
const withEnvironment = (variables: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = { ...process.env }
      for (const name of Object.keys(process.env))
        if (/^(AZURE|GOOGLE|GCLOUD|GCE|IDENTITY|MSI)_/.test(name)) delete process.env[name]
      // gcloud's own file is looked for below it
      Object.assign(
        process.env,
        { HOME: folder, CLOUDSDK_CONFIG: folder, METADATA_SERVER_DETECTION: "assume-present" },
        variables
      )
      return before
    }),
    (before) => Effect.sync(() => void (process.env = before))
  )

const folder = mkdtempSync(path.join(tmpdir(), "credentials-"))
process.once("exit", () => rmSync(folder, { recursive: true, force: true }))

const fileWith = (value: unknown): string => {
  const file = path.join(folder, "key.json")
  writeFileSync(file, typeof value === "string" ? value : JSON.stringify(value))
  return file
}

const json =
  (value: unknown, status = 200): Behaviour =>
  (_request, response) =>
    void response
      .writeHead(status, { "content-type": "application/json", "metadata-flavor": "Google" })
      .end(JSON.stringify(value))

const tokenOf = (effect: Effect.Effect<AccessToken.AccessToken, AccessToken.AccessTokenError>) =>
  Effect.map(effect, ({ expiresAtMillis, token }) => ({
    token: Redacted.value(token),
    minutes: Math.round(((expiresAtMillis ?? NaN) - Date.now()) / 60_000)
  }))

describe("GcsCredentials", () => {
  it.scopedLive("the metadata server of the machine gives a token with its end, a fresh one each time", () =>
    Effect.gen(function* () {
      const server = yield* startServer
      let given = 0
      server.answer((request, response) => {
        const isToken = request.url?.includes("/token") === true
        json(isToken ? { access_token: `t${++given}`, expires_in: 3600, token_type: "Bearer" } : "")(request, response)
      })
      yield* withEnvironment({ GCE_METADATA_HOST: server.origin.slice("http://".length) })
      const credentials = GcsCredentials.make()
      assert.deepStrictEqual(yield* tokenOf(credentials), { token: "t1", minutes: 60 })
      assert.deepStrictEqual(yield* tokenOf(credentials), { token: "t2", minutes: 60 })
      assert.isTrue(server.requests.some(({ url }) => url.includes("devstorage.read_write")))
    })
  )

  /** A federation of workloads, whose token endpoint can be anywhere; that of a service account's key is fixed in the package. */
  const federation = (origin: string) => {
    writeFileSync(path.join(folder, "subject"), "sec-subject")
    return fileWith({
      type: "external_account",
      audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
      subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
      token_url: `${origin}/token`,
      credential_source: { file: path.join(folder, "subject") }
    })
  }

  it.scopedLive(
    "the file of GOOGLE_APPLICATION_CREDENTIALS is read; a refusal is Unauthorized and shows nothing of it",
    () =>
      Effect.gen(function* () {
        const server = yield* startServer
        const refusal = { error: "invalid_grant", error_description: "sec-description" }
        server.answer(
          json({ access_token: "t1", expires_in: 600, token_type: "Bearer", issued_token_type: "x" }),
          json(refusal, 400)
        )
        yield* withEnvironment({ GOOGLE_APPLICATION_CREDENTIALS: federation(server.origin) })
        assert.deepStrictEqual(yield* tokenOf(GcsCredentials.make()), { token: "t1", minutes: 10 })
        const error = yield* Effect.flip(GcsCredentials.make())
        assert.deepStrictEqual(
          [error.reason, error.message],
          ["Unauthorized", "Google Cloud refused the credentials with 400 invalid_grant."]
        )
        assert.notInclude(inspect(error, { depth: 20, showHidden: true }), "sec-")
      })
  )

  it.scopedLive(
    "a file that is not there or holds nothing is Unauthorized, an endpoint that nobody serves is Network",
    () =>
      Effect.gen(function* () {
        yield* withEnvironment({})
        const failed = (keyFile: string) =>
          Effect.map(Effect.flip(GcsCredentials.make({ keyFile })), ({ message, reason }) => `${reason}: ${message}`)
        assert.match(yield* failed("/no/such/file.json"), /^Unauthorized: .*cannot be opened \(ENOENT\)/)
        assert.match(yield* failed(fileWith("no json")), /^Unauthorized: Google Cloud has no credentials here/)
        const port = yield* freePort
        assert.match(yield* failed(federation(`http://127.0.0.1:${port}`)), /^Network: .*\(ECONNREFUSED\)/)
      })
  )
})

describe("AzureCredentials", () => {
  it.scopedLive("the identity of the machine gives a token with its end; a refusal is Unauthorized", () =>
    Effect.gen(function* () {
      const server = yield* startServer
      const expires_on = Math.round(Date.now() / 1000) + 3600
      server.answer(
        json({ statusCode: 400, message: "sec-message" }, 400),
        json({ access_token: "t1", expires_on, resource: "https://storage.azure.com", token_type: "Bearer" })
      )
      yield* withEnvironment({ IDENTITY_ENDPOINT: `${server.origin}/msi/token`, IDENTITY_HEADER: "sec-header" })
      const error = yield* Effect.flip(AzureCredentials.make())
      assert.strictEqual(error.reason, "Unauthorized")
      assert.notInclude(inspect(error, { depth: 20, showHidden: true }), "sec-")
      assert.deepStrictEqual(yield* tokenOf(AzureCredentials.make()), { token: "t1", minutes: 60 })
      const asked = server.requests.at(-1)!
      assert.include(decodeURIComponent(asked.url), "resource=https://storage.azure.com")
      assert.strictEqual(asked.headers["x-identity-header"], "sec-header")
    })
  )

  it.effect("a credential of one's own is asked for storage; one that gives none is Unauthorized", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const given = AzureCredentials.fromTokenCredential({
        getToken: (scope) => {
          asked.push(scope)
          return Promise.resolve({ token: "t", expiresOnTimestamp: 1 })
        }
      })
      assert.strictEqual((yield* given).expiresAtMillis, 1)
      assert.deepStrictEqual(asked, ["https://storage.azure.com/.default"])
      const none = AzureCredentials.fromTokenCredential({ getToken: () => Promise.resolve(null) })
      assert.strictEqual((yield* Effect.flip(none)).reason, "Unauthorized")
      const status = Object.assign(new Error("sec"), { name: "AuthenticationError", statusCode: 503 })
      const busy = AzureCredentials.fromTokenCredential({ getToken: () => Promise.reject(status) })
      assert.strictEqual((yield* Effect.flip(busy)).message, "Azure answered the request for an access token with 503.")
    })
  )
})

describe("a package that is missing", () => {
  const url = (file: string) => new URL(file, import.meta.url).href

  it.each([
    ["GcsCredentials", "google-auth-library@9"],
    ["AzureCredentials", "@azure/identity@4"]
  ])("%s says how to install it", (module, packageName) => {
    const hook = `export const resolve = (name, context, next) => {
      if (name === ${JSON.stringify(packageName.replace(/@\d$/, ""))}) throw Object.assign(new Error("Cannot find package"), { code: "ERR_MODULE_NOT_FOUND" })
      return next(name, context)
    }`
    const program = `
      import { register } from "node:module"
      register("data:text/javascript," + encodeURIComponent(${JSON.stringify(hook)}))
      const { Effect } = await import(${JSON.stringify(url("../../node_modules/effect/dist/esm/index.js"))})
      const { make } = await import(${JSON.stringify(url(`../../src/objects/${module}.ts`))})
      const { reason, message } = await Effect.runPromise(Effect.flip(make()))
      console.log(reason + ": " + message)`
    const file = path.join(folder, `${module}.mts`)
    writeFileSync(file, program)
    const said = execFileSync(process.execPath, ["--import", url("../../node_modules/tsx/dist/esm/index.mjs"), file], {
      encoding: "utf8"
    })
    assert.strictEqual(said.trim(), `InvalidRequest: The package that signs in is missing: npm install ${packageName}`)
  })
})
