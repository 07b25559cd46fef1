"""Text that may be written and used, but never shown: everywhere but in the store `***` stands for it."""

from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, SecretStr, SerializationInfo, ValidationInfo

PLACEHOLDER = "***"


class Secret(SecretStr):
    """A secret. `get_secret_value` gives the text; printed, logged or written out it is `***`."""

    def _display(self) -> str:
        return PLACEHOLDER

    def is_placeholder(self) -> bool:
        """Tell whether `***` was given, which stands for the secret that is held already."""
        return self.get_secret_value() == PLACEHOLDER


def _unsealed(secret: Secret, info: ValidationInfo) -> Secret:
    """With `unseal` in the context, as where the store is read, the text is sealed."""
    if info.context:
        return Secret(info.context["unseal"](secret.get_secret_value()))
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("contains characters that are not Unicode") from None
    return secret


def _written(secret: Secret, info: SerializationInfo) -> str:
    """With `seal` in the context, as where the store is written, the sealed text is written."""
    sealed: str = info.context["seal"](secret.get_secret_value()) if info.context else PLACEHOLDER
    return sealed


SecretText = Annotated[
    Secret,
    AfterValidator(_unsealed),
    Field(max_length=1 << 16),
    PlainSerializer(_written, return_type=str),
]
