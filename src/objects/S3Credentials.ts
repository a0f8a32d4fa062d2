/**
 * Amazon's normal chain of credentials for `S3`: environment, web identity, profile and SSO, process, container, instance role.
 *
 * It is Amazon's own package, the optional peer `@aws-sdk/credential-provider-node`, which is loaded when credentials are first
 * needed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Credentials } from "./S3.js"
import { CredentialsError } from "./S3.js"

/**
 * What {@link make} takes.
 *
 * - `profile`: which profile of the shared configuration files to take [`AWS_PROFILE`, else `default`].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly profile?: string | undefined
}

/**
 * Makes the effect that `credentials` of `S3` takes. Each time it runs it goes through the chain again.
 *
 * **Details** The chain reads the process's environment and the files of the user itself, not the configuration of the
 * program. A region that only a profile names is not taken from there: Amazon's servers name the right one.
 *
 * **Errors** `CredentialsError`. InvalidRequest: the package is not installed; the message has the line that installs it.
 * Unauthorized: no part of the chain has credentials. Network: a service that gives credentials could not be asked.
 *
 * **Example**
 * ```ts
 * import { S3 } from "effect-periscope/objects"
 * import * as S3Credentials from "effect-periscope/objects/S3Credentials"
 *
 * const Reports = S3.layer({ bucket: "reports", credentials: S3Credentials.make() })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({ profile }: Options = {}): Effect.Effect<Credentials, CredentialsError> =>
  Effect.gen(function* () {
    const { defaultProvider } = yield* Effect.tryPromise({
      try: () => import("@aws-sdk/credential-provider-node"),
      catch: notInstalled
    })
    // a provider remembers what it gave, also when that was refused: each run takes a new one
    const provider = defaultProvider(profile === undefined ? {} : { profile })
    const { accessKeyId, expiration, secretAccessKey, sessionToken } = yield* Effect.tryPromise({
      try: () => provider(),
      catch: unavailable
    })
    return {
      accessKeyId,
      secretAccessKey: Redacted.make(secretAccessKey),
      ...(sessionToken === undefined ? {} : { sessionToken: Redacted.make(sessionToken) }),
      ...(expiration === undefined ? {} : { expiresAtMillis: expiration.getTime() })
    }
  })

const notInstalled = (): CredentialsError =>
  new CredentialsError({
    reason: "InvalidRequest",
    message:
      "S3Credentials needs a package that cannot be loaded; install it with: npm install @aws-sdk/credential-provider-node@3"
  })

/** Messages are left out: those of services may hold anything. */
const unavailable = (error: unknown): CredentialsError => {
  const name = error instanceof Error && /^\w{1,64}$/.test(error.name) ? error.name : "Error"
  const isNowhere = name === "CredentialsProviderError"
  return new CredentialsError({
    reason: isNowhere ? "Unauthorized" : "Network",
    message: isNowhere
      ? "Amazon's chain has none: not in the environment, in a profile, from a container or an instance role."
      : `A service of Amazon's chain of credentials failed (${name}).`
  })
}
