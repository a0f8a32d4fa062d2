/**
 * Opens the store of a source, with the credentials that the tools of its cloud would find. What a source does not need is
 * not loaded.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Redacted from "effect/Redacted"
import type * as ObjectStore from "../objects/ObjectStore.js"
import type { ObjectOptions } from "./objectOptions.js"
import type { PlannedObjects } from "./plan.js"
import type { Bucket } from "./sourceUri.js"

type Store = Context.Tag.Service<typeof ObjectStore.ObjectStore>

/** A store that cannot be used as things are: only a person can put that right. */
export class CannotOpen {
  readonly _tag = "CannotOpen"
  readonly isFatal = true
  constructor(readonly message: string) {}
}

export interface Opened {
  readonly store: Store
  /** Why there have been no credentials yet, where that will not change by itself. */
  readonly missing: () => CannotOpen | undefined
}

type Opening = Effect.Effect<Opened, CannotOpen, HttpClient.HttpClient>

/** Opens a store; nothing is asked of it yet. */
export const open = ({ bearerToken, headers, options, target }: PlannedObjects, timeout: number | undefined): Opening =>
  Effect.suspend(() => {
    const { place } = target
    switch (place.store) {
      case "s3":
        return openS3(place, options, timeout)
      case "gs":
        return openGcs(place, options, timeout)
      case "az":
        return openAzure(place, options, timeout)
      case "dav":
        return plainly(
          Effect.flatMap(
            Effect.promise(() => import("../objects/WebDav.js")),
            (WebDav) => WebDav.make({ url: place.url, headers, bearerToken, timeout })
          )
        )
      case "folder":
        return plainly(
          Effect.flatMap(
            Effect.promise(() => import("../objects/Folder.js")),
            (Folder) => Folder.make({ root: place.path })
          )
        )
    }
  }).pipe(Effect.catchAllCause((cause) => Effect.fail(asCannotOpen(cause))))

/** What a constructor threw says it in a sentence; so does what the environment holds and cannot be read. */
const asCannotOpen = (cause: Cause.Cause<CannotOpen | ConfigError.ConfigError>): CannotOpen => {
  const error = Cause.squash(cause)
  if (error instanceof CannotOpen) return error
  return new CannotOpen(Predicate.hasProperty(error, "message") ? String(error.message) : String(error))
}

const plainly = <E, R>(store: Effect.Effect<Store, E, R>): Effect.Effect<Opened, E, R> =>
  Effect.map(store, (store) => ({ store, missing: () => undefined }))

interface CredentialsProblem {
  readonly reason: "Unauthorized" | "InvalidRequest" | "Network" | "Timeout"
  readonly message: string
}

/**
 * A chain of credentials that remembers why it has none: that is final as long as it never had any. Later on it may come
 * back, and is only a failed poll.
 */
const remembering = <A, E extends CredentialsProblem>(chain: Effect.Effect<A, E>, place: Bucket, advice: string) => {
  let hadSome = false
  let problem: CannotOpen | undefined
  const credentials = Effect.tapBoth(chain, {
    onSuccess: () => Effect.sync(() => void (hadSome = true)),
    onFailure: ({ message, reason }) =>
      Effect.sync(() => {
        if (hadSome || reason === "Network" || reason === "Timeout") return
        const where = `${place.store}://${place.container}`
        const why = message.replace(/[.]$/, "")
        problem = new CannotOpen(`${where} cannot be opened: ${why} (to give it keys: ${advice})`)
      })
  })
  return { credentials, missing: () => problem }
}

// ---------------------------------------------------------------- the clouds

const openS3 = (place: Bucket, { endpoint, region }: ObjectOptions, timeout: number | undefined) =>
  Effect.gen(function* () {
    const S3 = yield* Effect.promise(() => import("../objects/S3.js"))
    const options = { bucket: place.container, endpoint, region, timeout }
    const hasKeys =
      (yield* text("AWS_ACCESS_KEY_ID")) !== undefined && (yield* secret("AWS_SECRET_ACCESS_KEY")) !== undefined
    if (hasKeys) return yield* plainly(S3.make(options))
    const S3Credentials = yield* Effect.promise(() => import("../objects/S3Credentials.js"))
    const { credentials, missing } = remembering(
      S3Credentials.make(),
      place,
      "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    return { store: yield* S3.make({ ...options, credentials }), missing }
  })

const openGcs = (place: Bucket, { endpoint }: ObjectOptions, timeout: number | undefined) =>
  Effect.gen(function* () {
    const Gcs = yield* Effect.promise(() => import("../objects/Gcs.js"))
    const GcsCredentials = yield* Effect.promise(() => import("../objects/GcsCredentials.js"))
    const { credentials, missing } = remembering(
      GcsCredentials.make({ scopes: ["https://www.googleapis.com/auth/devstorage.read_only"] }),
      place,
      "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or STORAGE_EMULATOR_HOST to an emulator"
    )
    return { store: yield* Gcs.make({ bucket: place.container, credentials, endpoint, timeout }), missing }
  })

const openAzure = (place: Bucket, { endpoint }: ObjectOptions, timeout: number | undefined) =>
  Effect.gen(function* () {
    const Azure = yield* Effect.promise(() => import("../objects/Azure.js"))
    const account = yield* text("AZURE_STORAGE_ACCOUNT")
    const connection = yield* secret("AZURE_STORAGE_CONNECTION_STRING")
    const key = yield* secret("AZURE_STORAGE_KEY")
    const sas = yield* secret("AZURE_STORAGE_SAS_TOKEN")
    const options = { container: place.container, endpoint, timeout }
    if (connection !== undefined) {
      return yield* plainly(Azure.make({ ...options, credentials: Azure.connectionString(connection) }))
    }
    if (account === undefined && endpoint === undefined) {
      return yield* Effect.fail(
        new CannotOpen(
          `az://${place.container} has no account; set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY`
        )
      )
    }
    const given = key !== undefined ? Azure.accountKey(key) : sas !== undefined ? Azure.sas(sas) : undefined
    if (given !== undefined) return yield* plainly(Azure.make({ ...options, account, credentials: given }))
    const AzureCredentials = yield* Effect.promise(() => import("../objects/AzureCredentials.js"))
    const { credentials, missing } = remembering(
      AzureCredentials.make(),
      place,
      "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY"
    )
    return { store: yield* Azure.make({ ...options, account, credentials }), missing }
  })

const set = <A>(config: Config.Config<A>): Effect.Effect<A | undefined, ConfigError.ConfigError> =>
  Effect.map(Config.option(config), Option.getOrUndefined)

const text = (name: string): Effect.Effect<string | undefined, ConfigError.ConfigError> =>
  set(Config.nonEmptyString(name))

const secret = (name: string): Effect.Effect<Redacted.Redacted | undefined, ConfigError.ConfigError> =>
  set(Config.redacted(Config.nonEmptyString(name)))
