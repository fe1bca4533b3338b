//! What becomes of HTML, piece by piece.

fn render(html: &str) -> String {
    super::render(html).0
}

#[test]
fn cells_of_a_row_stand_apart_on_one_line() {
    assert_eq!(
        render("<table><tr><td>Status:</td><td>Down</td><td>Severity</td></tr><tr><td>A</td></tr></table>"),
        "Status: Down  Severity\nA"
    );
    assert_eq!(render("<tr><th>Title</th><th>Case</th></tr>"), "Title  Case");
}

#[test]
fn an_empty_cell_keeps_its_column() {
    assert_eq!(render("<tr><td>a</td><td>&nbsp;</td><td>c</td></tr>"), "a    c");
    assert_eq!(render("<tr><td>a</td></tr><tr><td>&nbsp;</td></tr><tr><td>b"), "a\n\nb");
    assert_eq!(render("<tr><td></td><td>b</td></tr><tr><td>Last:</td><td></td></tr>x"), "b\nLast:\nx");
}

#[test]
fn paragraphs_inside_cells_do_not_break_the_row() {
    assert_eq!(
        render("<tr>\n<td><p>Host:</p></td>\n<td><p>web01</p></td>\n</tr><tr><td>x"),
        "Host: web01\nx"
    );
}

#[test]
fn a_cell_of_several_lines_is_followed_by_a_new_line() {
    assert_eq!(render("<tr><td>a<br>b</td><td>c</td></tr>"), "a\nb\nc");
    assert_eq!(render("<tr><td>x<table><tr><td>1</td><td>2</td></tr></table></td><td>y"), "x\n1  2\n\ny");
}

#[test]
fn inline_markup_keeps_its_spaces_and_leaves_no_marks() {
    assert_eq!(
        render("<b>Problem name:</b> High CPU<br><b>Age:</b> 5m <i>10s</i><br>"),
        "Problem name: High CPU\nAge: 5m 10s"
    );
    assert_eq!(render("<p>Incident <b>4711</b>!</p>\n<p>Next</p>"), "Incident 4711!\nNext");
}

#[test]
fn items_and_blocks_begin_lines() {
    assert_eq!(render("a<ul><li>Host: web01<li>State: DOWN</ul>b"), "a\n\nHost: web01\nState: DOWN\n\nb");
    assert_eq!(render("<div>a</div><div>b</div><br>c<hr>d"), "a\nb\n\nc\n----\nd");
    assert_eq!(render("<pre>  x\n    y\n</pre>z"), "  x\n    y\n\nz");
}

#[test]
fn what_is_not_for_readers_is_dropped() {
    assert_eq!(
        render(
            "<!DOCTYPE html><title>t</title><style>p {}</style><SCRIPT>if (a</b/) '</p>'</Script>x<!-- <p>c -->y<?xml ?><!--->z<![if mso]>"
        ),
        "xyz"
    );
    assert_eq!(render("<p>a&zwnj;&nbsp;&#8203;&shy;b"), "a b");
}

#[test]
fn a_line_is_indented_by_no_break_spaces() {
    assert_eq!(render("a:<br>\n&nbsp;&nbsp; b&nbsp; c<br>&nbsp;<br> d"), "a:\n   b c\n\nd");
}

#[test]
fn paragraphs_of_one_line_each_are_lines() {
    assert_eq!(
        render("<p>Incident 7</p>\n<p>Severity: 3</p><p>&nbsp;</p><p>Details<p>x<br>y</p><p>z</p>"),
        "Incident 7\nSeverity: 3\n\nDetails\n\nx\ny\n\nz"
    );
    assert_eq!(
        render("<p>a</p><br><p>b</p><div>c</div><p>d</p><h1>e</h1><p>f</p>"),
        "a\n\nb\n\nc\n\nd\n\ne\n\nf"
    );
}

#[test]
fn what_word_adds_is_no_text() {
    assert_eq!(
        render("<p class=MsoNormal>Status: Closed<o:p></o:p></p><p><o:p>&nbsp;</o:p></p>"),
        "Status: Closed"
    );
    assert_eq!(
        render(
            "<v:shape id=\"P_1\" style=\"width:1pt\"><v:imagedata src=\"cid:x\" o:title=\"l\"/></v:shape><st1:place w:st=\"on\">Berlin</st1:place> rack 4"
        ),
        "Berlin rack 4"
    );
    assert_eq!(
        render(
            "<!--[if gte mso 9]><xml><o:x>96</o:x></xml><![endif]--><xml><w:View>1</w:View></xml><!--[if !mso]><!-->a<!--<![endif]-->"
        ),
        "a"
    );
    assert_eq!(
        render(
            "<p class=MsoNormal>Severity: 4</p>\n<p class=MsoNormal>Owner: kim<p class=MsoNormal><o:p>&nbsp;</o:p></p><p class=\"MsoNormal\">x</p>"
        ),
        "Severity: 4\nOwner: kim\n\nx"
    );
    assert_eq!(render("<Error:Timeout> at <db:7>"), "<Error:Timeout> at <db:7>");
}

#[test]
fn a_link_that_was_rewritten_is_shown_as_it_was_written() {
    let safe = "https://eur02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fx.example%2F7&amp;data=05";
    assert_eq!(
        super::render(&format!("<a href=\"{safe}\">https://x.example/7</a>")),
        ("https://x.example/7".to_owned(), true)
    );
}

#[test]
fn an_element_that_never_ends_hides_nothing() {
    assert_eq!(render("<style>Status: Down"), "Status: Down");
    assert_eq!(render("a<!-- b > c"), "a c");
    assert_eq!(render("<p title=\"x>Status: Down"), "Status: Down");
    assert_eq!(render("<a href=https://x.example/1>x"), "x <https://x.example/1>");
}

#[test]
fn text_that_is_only_called_html_keeps_its_lines() {
    assert_eq!(render("Host: web01\nState: DOWN &gt; 5m"), "Host: web01\nState: DOWN > 5m");
}

#[test]
fn links_show_their_target_once() {
    assert_eq!(
        render("<a class=b HREF='https://x.example/?a=1&amp;b=2'>Open</a>."),
        "Open <https://x.example/?a=1&b=2>."
    );
    assert_eq!(render("<a href=\"https://x.example/\">https://x.example</a>"), "https://x.example");
    assert_eq!(render("<a href=\"mailto:a@x.example\">a@x.example</a>"), "a@x.example");
    assert_eq!(render("<a href=\"#top\">Top</a> <a href=\"javascript:x://\">J</a>"), "Top J");
    assert_eq!(
        render("<div><a href=\"https://x.example\"><div>Card</div></a></div>next"),
        "Card <https://x.example>\nnext"
    );
    assert_eq!(
        render("<a href=\"https://x.example\"><img src=x alt=\"Logo\"></a>"),
        "Logo <https://x.example>"
    );
}

#[test]
fn quotations_are_marked_as_in_plain_text() {
    assert_eq!(
        render("Yes.<blockquote type=cite>Is it down?<br>Really?</blockquote>Bye"),
        "Yes.\n> Is it down?\n> Really?\nBye"
    );
}

#[test]
fn angle_brackets_that_nobody_escaped_stay() {
    assert_eq!(
        render("Cron <root@web01> a < b <https://x.example/> <3"),
        "Cron <root@web01> a < b <https://x.example/> <3"
    );
}

#[test]
fn entities_are_decoded_once() {
    assert_eq!(render("&lt;b&gt; &amp;lt; &eacute;&#x27;&#233;"), "<b> &lt; é'é");
}
