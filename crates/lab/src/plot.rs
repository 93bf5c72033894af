//! Line charts over time as SVG, made to be looked at: axes with round figures and units, a legend, colours that most eyes
//! can tell apart.
//!
//! What does not live here: what is drawn, and files.
//!
//! Invariant: what is drawn is a function of what is given, to the last byte; whatever the figures are, the SVG is well formed.

use std::fmt::Write;

/// Colours that stay apart for colour-blind eyes (Okabe and Ito's, without the yellow, which is too light on white).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];
const WIDTH: f64 = 960.0;
/// From the left edge to the axis, and from the plot to the right edge.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 24.0;
/// Of a panel: the room above it, its own height, the room below it.
const ABOVE: f64 = 34.0;
const HEIGHT: f64 = 190.0;
const BELOW: f64 = 26.0;
/// Of the page.
const HEAD: f64 = 74.0;
const FOOT: f64 = 26.0;
const FONT: &str = "font-family=\"Helvetica, Arial, sans-serif\"";

/// One line of a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Which name of the legend it belongs to.
    pub series: usize,
    /// Drawn in dashes: a bound, not a measurement.
    pub dashed: bool,
    /// Seconds, and the figure in the panel's unit.
    pub points: Vec<(f64, f64)>,
}

/// One chart of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// Its unit.
    pub unit: String,
    /// Drawn one over the other.
    pub lines: Vec<Line>,
}

/// A page: panels one below the other, over one axis of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The headline.
    pub title: String,
    /// A line below it.
    pub about: String,
    /// The names of the series.
    pub legend: Vec<String>,
    /// At least one.
    pub panels: Vec<Panel>,
    /// Seconds on the axis.
    pub seconds: f64,
}

/// Distances between two labels of an axis: 1, 2 or 5 times a power of ten, about `count` of them up to `most`.
fn step(most: f64, count: f64) -> f64 {
    let rough = (most / count).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let factor = match rough / power {
        f if f <= 1.0 => 1.0,
        f if f <= 2.0 => 2.0,
        f if f <= 5.0 => 5.0,
        _ => 10.0,
    };
    factor * power
}

/// A figure on an axis whose labels are `step` apart.
fn label(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML has no other control characters, even escaped.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The page as an SVG document.
pub fn draw(page: &Page) -> String {
    let panel_height = ABOVE + HEIGHT + BELOW;
    let height = HEAD + panel_height * page.panels.len() as f64 + FOOT;
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" {FONT}>\n<title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escaped(&page.title),
    );
    text(
        &mut svg,
        (LEFT, 26.0),
        "font-size=\"18\" font-weight=\"bold\" fill=\"#111111\"",
        &page.title,
    );
    text(
        &mut svg,
        (LEFT, 44.0),
        "font-size=\"12\" fill=\"#555555\"",
        &page.about,
    );
    legend(&mut svg, page);
    for (at, panel) in page.panels.iter().enumerate() {
        let top = HEAD + panel_height * at as f64 + ABOVE;
        draw_panel(&mut svg, page.seconds, panel, top);
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text(
        &mut svg,
        (middle, height - 10.0),
        "font-size=\"12\" text-anchor=\"middle\" fill=\"#333333\"",
        "time, s",
    );
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>",
        escaped(words)
    );
}

/// Names beside their colours, in rows.
fn legend(svg: &mut String, page: &Page) {
    let mut x = LEFT;
    for (series, name) in page.legend.iter().enumerate() {
        let colour = COLOURS[series % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"62\" x2=\"{:.1}\" y2=\"62\" stroke=\"{colour}\" stroke-width=\"3\"/>",
            x + 22.0
        );
        text(
            svg,
            (x + 28.0, 66.0),
            "font-size=\"12\" fill=\"#333333\"",
            name,
        );
        x += 28.0 + 7.0 * name.chars().count() as f64 + 24.0;
    }
}

fn draw_panel(svg: &mut String, seconds: f64, panel: &Panel, top: f64) {
    let (right, bottom) = (WIDTH - RIGHT, top + HEIGHT);
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let most = points().map(|point| point.1).filter(|y| y.is_finite());
    let most = most.fold(0.0, f64::max);
    let y_step = step(if most > 0.0 { most } else { 1.0 }, 5.0);
    let y_top = (most / y_step).ceil().max(1.0) * y_step;
    let seconds = seconds.max(1e-6);
    let x_of = |s: f64| LEFT + s / seconds * (right - LEFT);
    let y_of = |y: f64| bottom - y.clamp(0.0, y_top) / y_top * HEIGHT;
    let title = format!("{}, {}", panel.title, panel.unit);
    text(
        svg,
        (LEFT, top - 10.0),
        "font-size=\"13\" font-weight=\"bold\" fill=\"#111111\"",
        &title,
    );
    let rows = (y_top / y_step).round() as usize;
    for row in 0..=rows {
        let value = row as f64 * y_step;
        let (y, colour) = (y_of(value), if row == 0 { "#333333" } else { "#dddddd" });
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{colour}\"/>"
        );
        let style = "font-size=\"11\" text-anchor=\"end\" fill=\"#333333\"";
        text(svg, (LEFT - 8.0, y + 4.0), style, &label(value, y_step));
    }
    let x_step = step(seconds, 10.0);
    for column in 0..=(seconds / x_step + 1e-9).floor() as usize {
        let value = column as f64 * x_step;
        let (x, colour) = (x_of(value), if column == 0 { "#333333" } else { "#eeeeee" });
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{colour}\"/>"
        );
        let style = "font-size=\"11\" text-anchor=\"middle\" fill=\"#333333\"";
        text(svg, (x, bottom + 16.0), style, &label(value, x_step));
    }
    for line in &panel.lines {
        let mut path = String::new();
        let drawn = line
            .points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite());
        for (x, y) in drawn {
            let _ = write!(path, "{:.1},{:.1} ", x_of(*x), y_of(*y));
        }
        let dashes = if line.dashed {
            " stroke-dasharray=\"5 4\""
        } else {
            ""
        };
        let colour = COLOURS[line.series % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"{dashes}/>",
            path.trim_end()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_round_figures() {
        assert_eq!(
            (step(97.0, 5.0), step(1.0, 5.0), step(0.03, 5.0)),
            (20.0, 0.2, 0.01)
        );
        assert_eq!(
            (label(40.0, 20.0), label(0.4, 0.2)),
            ("40".into(), "0.4".into())
        );
        assert_eq!(label(0.02, 0.01), "0.02");
    }

    fn page(points: Vec<(f64, f64)>) -> Page {
        Page {
            title: "a < b & \"c\"".into(),
            about: "about".into(),
            legend: vec!["one".into(), "two".into()],
            panels: vec![Panel {
                title: "cwnd".into(),
                unit: "KiB".into(),
                lines: vec![Line {
                    series: 1,
                    dashed: false,
                    points,
                }],
            }],
            seconds: 10.0,
        }
    }

    /// Every element that opens closes, and every attribute is quoted: enough of XML for what is written here.
    fn is_well_formed(svg: &str) -> bool {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("a tag ends");
            assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
            assert!(!text.contains('&') || text.contains(';'), "{text}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().expect("a name")),
            }
        }
        open.is_empty()
    }

    #[test]
    fn a_page_has_axes_units_and_a_legend() {
        let svg = draw(&page(vec![(0.0, 0.0), (5.0, 50.0), (10.0, 97.0)]));
        assert!(is_well_formed(&svg), "{svg}");
        for words in [
            "a &lt; b &amp; &quot;c&quot;</text>",
            ">cwnd, KiB</text>",
            ">time, s</text>",
            ">one</text>",
            ">two</text>",
            ">100</text>",
            ">20</text>",
            ">10</text>",
        ] {
            assert!(svg.contains(words), "{words} is not in {svg}");
        }
        let line = svg
            .lines()
            .find(|line| line.starts_with("<polyline"))
            .unwrap();
        assert!(line.contains(COLOURS[1]), "{line}");
        // From the lower left corner of the panel up to 97 of 100.
        assert!(
            line.contains("points=\"74.0,298.0 505.0,203.0 936.0,113.7\""),
            "{line}"
        );
    }

    #[test]
    fn whatever_the_figures_are_the_page_is_well_formed() {
        for points in [
            vec![],
            vec![(0.0, 0.0)],
            vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (2.0, -1.0)],
            vec![(0.0, 1e-12), (1.0, 1e18)],
        ] {
            let svg = draw(&page(points));
            assert!(is_well_formed(&svg));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
