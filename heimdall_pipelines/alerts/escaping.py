"""Text of alerts for chat services: names of sessions and messages of receivers notify no user and make no links."""

import re

# Services that show text as it is, or hand it to programs; all others may read mark-up.
VERBATIM_SCHEMES = frozenset(
    {
        *("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"),
        *("syslog", "rsyslog", "mqtt", "mqtts", "amqp", "amqps", "apprise", "apprises"),
    }
)
_BREAK = "\u200b"  # a space without width: text looks as before, and is no mark-up any more
_MARK_UP = (
    r"@(?=\S)"  # @channel, @here, @everyone, @name
    r"|<(?=[@!#:a-zA-Z/])"  # <@id>, <!here>, <#channel>, <users/all>, <https://…>, tags
    r"|\](?=[(\[:])"  # [text](address), [text][reference]
    r"|`(?=`)"  # fences
    r"|\|(?=\|)"  # spoilers
)


def chat_text(text: str, ui_url: str | None = None) -> str:
    """Break mentions, tags, code fences and links; only addresses of the Dagster UI stay links.

    Parameters
    ----------
    text : str
        Plain text.
    ui_url : str, optional
        Address of the Dagster UI.

    Examples
    --------
    >>> chat_text("@everyone see [this](http://evil.example)").replace("\u200b", "|")
    '@|everyone see [this]|(http|://evil.example)'
    """
    own = "" if ui_url is None else rf"(?!{re.escape(ui_url.partition('://')[2])}(?:[/?#\s]|$))"
    links = rf"|[A-Za-z][A-Za-z0-9+.-]*(?=://{own})"
    return re.sub(_MARK_UP + links, lambda found: found[0] + _BREAK, text)
