/**
 * The normal credentials of Google Cloud as an effect for `Gcs`: a key file or a federation that `GOOGLE_APPLICATION_CREDENTIALS`
 * names, what `gcloud auth application-default login` left behind, or the metadata server of the machine.
 *
 * It needs the optional peer `google-auth-library`, which is loaded when a token is first wanted.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { AccessToken } from "./AccessToken.js"
import { AccessTokenError } from "./AccessToken.js"
import * as credentialPeer from "./credentialPeer.js"

/**
 * What {@link make} takes.
 *
 * - `keyFile`: a file with credentials, in place of the one that the environment names.
 * - `scopes`: what the token is for [`https://www.googleapis.com/auth/devstorage.read_write`]. What it really allows is said by
 *   the roles of the account.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly keyFile?: string | undefined
  readonly scopes?: ReadonlyArray<string> | undefined
}

/**
 * Makes the effect that gives an access token.
 *
 * **Details** Each run looks for the credentials anew and asks for a fresh token, so a key file that was replaced counts from
 * the next one on. A store runs it about once an hour.
 *
 * **Errors** `Unauthorized` where there are no credentials or they are refused, `Network` where nobody answers, and
 * `InvalidRequest` with the line that installs the package where it is missing.
 *
 * **Example**
 * ```ts
 * import { Gcs } from "effect-periscope/objects"
 * import * as GcsCredentials from "effect-periscope/objects/GcsCredentials"
 *
 * const reports = Gcs.layer({
 *   bucket: "my-reports",
 *   credentials: GcsCredentials.make({ scopes: ["https://www.googleapis.com/auth/devstorage.read_only"] })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({
  keyFile,
  scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
}: Options = {}): Effect.Effect<AccessToken, AccessTokenError> =>
  Effect.gen(function* () {
    const { GoogleAuth } = yield* credentialPeer.load(() => import("google-auth-library"), "google-auth-library@9")
    const client = yield* credentialPeer.attempt("Google Cloud", () =>
      new GoogleAuth({
        scopes: [...scopes],
        // else the project is looked up first, which is a request that may not be allowed, and a token needs no project
        projectId: "unused",
        ...(keyFile === undefined ? {} : { keyFile })
      }).getClient()
    )
    const { token } = yield* credentialPeer.attempt("Google Cloud", () => client.getAccessToken())
    if (typeof token !== "string") {
      return yield* new AccessTokenError({ reason: "Unauthorized", message: "Google Cloud gave no access token." })
    }
    return credentialPeer.token(token, client.credentials.expiry_date ?? undefined)
  })
