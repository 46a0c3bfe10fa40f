"""`kjcm team`: divide a coded file among coders, measure their agreement, and settle the rows on which they disagree."""
