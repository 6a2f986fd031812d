"""Texts that are made of what cleaning looks for."""

from hypothesis import strategies as st

_PIECES = (
    "& ; # x 0 a g lt amp AMP nbsp &amp; &lt; &gt; &#x3c; &#38; &eacute; &notit; "
    "< > / <p> </p> <b> </b> <br/> <script> </script> <style </svg> <!-- --> <3 <unk> "
    "<a\thref='x>y'> <?xml <!doctype ' \" = e é Ã© â€™ Ã\u00a0 ï»¿ Ð¿Ñ\u0080 ä¸\u00ad "
    "ﬁ ² Ａ ＆ ； ＜ ＞ 中 文 ｶ ﾞ ㄱ ㅏ ﾡ ᄀ ᅡ ᆨ"
).split(" ") + list(
    " \t\n\r\x00\x07\x0b\x1c\x80\x85\x99\xa0\xad\u0301\u0323\u0345\u037e\u0958\u09be\u200b\u200d"
    "\u2028\u3000\u3099\ud83d\udc00\ufdfa\ufeff\ufffd\U0001f600"
)

messy_texts = st.one_of(
    st.text(alphabet=st.characters()),
    st.lists(st.one_of(st.sampled_from(_PIECES), st.characters()), max_size=30).map("".join),
)
