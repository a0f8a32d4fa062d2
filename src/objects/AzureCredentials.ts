/**
 * The normal credentials of Azure as an effect for `Azure`: the environment, a workload or managed identity, or whoever signed in
 * with a developer tool such as `az login`.
 *
 * It needs the optional peer `@azure/identity`, which is loaded when a token is first wanted.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { AccessToken } from "./AccessToken.js"
import { AccessTokenError } from "./AccessToken.js"
import * as credentialPeer from "./credentialPeer.js"

/**
 * What {@link fromTokenCredential} needs of a credential of `@azure/identity`.
 *
 * @category models
 * @since 0.1.0
 */
export interface TokenCredential {
  readonly getToken: (scopes: string) => Promise<{ readonly token: string; readonly expiresOnTimestamp: number } | null>
}

/**
 * What {@link make} takes.
 *
 * - `tenantId`: the directory to sign in to [`AZURE_TENANT_ID`].
 * - `managedIdentityClientId`: which of several managed identities of the machine [`AZURE_CLIENT_ID`].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly tenantId?: string | undefined
  readonly managedIdentityClientId?: string | undefined
}

const scope = "https://storage.azure.com/.default"

const ask = (credential: TokenCredential): Effect.Effect<AccessToken, AccessTokenError> =>
  Effect.flatMap(
    credentialPeer.attempt("Azure", () => credential.getToken(scope)),
    (given) =>
      given === null
        ? Effect.fail(new AccessTokenError({ reason: "Unauthorized", message: "Azure gave no access token." }))
        : Effect.succeed(credentialPeer.token(given.token, given.expiresOnTimestamp))
  )

/**
 * Makes the effect that gives an access token by the `DefaultAzureCredential`.
 *
 * **Details** Each run starts the chain anew; the package keeps a token of a managed identity until shortly before its end. A store
 * runs it about once an hour. The identity needs a role on the data, such as Storage Blob Data Reader, or Storage Blob Data
 * Contributor to write: to own the account is not enough.
 *
 * **Errors** `Unauthorized` where there are no credentials or they are refused, `Network` where nobody answers, and
 * `InvalidRequest` with the line that installs the package where it is missing.
 *
 * **Example**
 * ```ts
 * import { Azure } from "effect-periscope/objects"
 * import * as AzureCredentials from "effect-periscope/objects/AzureCredentials"
 *
 * const reports = Azure.layer({
 *   container: "reports",
 *   account: "contoso",
 *   credentials: AzureCredentials.make()
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<AccessToken, AccessTokenError> =>
  Effect.gen(function* () {
    const { DefaultAzureCredential } = yield* credentialPeer.load(() => import("@azure/identity"), "@azure/identity@4")
    const { managedIdentityClientId, tenantId } = options
    return yield* ask({
      getToken: (scopes) =>
        new DefaultAzureCredential({
          ...(tenantId === undefined ? {} : { tenantId }),
          ...(managedIdentityClientId === undefined ? {} : { managedIdentityClientId })
        }).getToken(scopes)
    })
  })

/**
 * Makes the effect of one credential, where the chain is not what is wanted: a certificate, or one managed identity and no other.
 *
 * **Gotchas** These credentials keep their token until shortly before its end. One that was revoked earlier is refused by the
 * store until then.
 *
 * **Example**
 * ```ts
 * import { ManagedIdentityCredential } from "@azure/identity"
 * import * as AzureCredentials from "effect-periscope/objects/AzureCredentials"
 *
 * const ofThisMachine = AzureCredentials.fromTokenCredential(new ManagedIdentityCredential())
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromTokenCredential = (credential: TokenCredential): Effect.Effect<AccessToken, AccessTokenError> =>
  ask(credential)
