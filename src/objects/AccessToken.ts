/**
 * A bearer token that a cloud store takes, and when it ends.
 *
 * An effect that gives one is all the stores know of signing in: `GcsCredentials` and `AzureCredentials` make such effects.
 *
 * @since 0.1.0
 */
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * The token, and when it ends: milliseconds since 1970. Without an end it is kept until it is refused.
 *
 * **Details** A store runs the effect that gives it when it is first needed, once more before the token ends (five minutes, or
 * half of its life where that is shorter), and once when it is refused with 401. So the effect must bring a fresh one each time.
 *
 * **Example**
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import type { AccessToken } from "effect-periscope/objects"
 *
 * const fromVault: Effect.Effect<AccessToken.AccessToken> = Effect.sync(() => ({
 *   token: Redacted.make("ya29.example"),
 *   expiresAtMillis: Date.parse("2026-01-01T00:00:00Z")
 * }))
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface AccessToken {
  readonly token: Redacted.Redacted
  readonly expiresAtMillis?: number | undefined
}

/**
 * Why there is no token. The store's own error takes over the reason and the message, so no secret belongs into it.
 *
 * - `Unauthorized`: there are no credentials, or they are refused.
 * - `InvalidRequest`: something is missing that only a person can put right, such as a package.
 * - `Network`, `Timeout`: nobody could be asked.
 *
 * **Example**
 * ```ts
 * import { AccessToken } from "effect-periscope/objects"
 *
 * const sealed = new AccessToken.AccessTokenError({ reason: "Unauthorized", message: "The vault is sealed." })
 *
 * sealed.reason // => "Unauthorized"
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class AccessTokenError extends Schema.TaggedError<AccessTokenError>("effect-periscope/AccessTokenError")(
  "AccessTokenError",
  {
    reason: Schema.Literal("Unauthorized", "InvalidRequest", "Network", "Timeout"),
    message: Schema.String
  }
) {}
